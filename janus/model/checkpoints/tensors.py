"""Weights on disk: safetensors or PyTorch files, single or sharded, read without running code, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from schemas.files import atomic_folder

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where the weights of a model folder may be, in the order they are looked for."""
_SHARD_SIZE = "5GB"


def read_tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of a model folder, on the CPU. Safetensors are memory-mapped, PyTorch files read without pickle code.

    Raises:
        FileNotFoundError: no weights, or a shard that the index names is missing.
        ValueError: a file that is not what its name says.
    """
    folder = Path(folder)
    for name in WEIGHT_FILES:
        if (path := folder / name).is_file():
            break
    else:
        raise FileNotFoundError(f"{folder}: no weights; expected one of {', '.join(WEIGHT_FILES)}")
    if path.suffix != ".json":
        return read_tensor_file(path)
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(f"{path}: not an index of weights: it has no weight_map")
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard:
            raise ValueError(f"{path}: names {shard!r}, which is outside the folder")
        tensors.update(read_tensor_file(folder / shard))
    return tensors


def read_tensor_file(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of one .safetensors file or PyTorch checkpoint (a mapping of tensors, read with `weights_only`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something other than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable weights file: {str(error).splitlines()[0]}") from None
    except Exception as error:  # torch raises pickle.UnpicklingError here; the name would need the pickle module
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(f"{path}: holds more than tensors, which is refused (weights_only)") from None
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{path}: expected a mapping from names to tensors")
    return dict(content)


def write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write `tensors` as `model.safetensors`, or as shards of 5 GB with their index."""
    save_torch_state_dict(
        {name: tensor.detach() for name, tensor in tensors.items()}, folder, max_shard_size=_SHARD_SIZE
    )


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, or not an object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return value


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes the model folder `folder` when the block ends well; see `atomic_folder`.

    Raises:
        FileExistsError: `folder` exists and is not a model folder: it is not ours to replace.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: exists and is not a model folder; name a new or empty folder")
    with atomic_folder(folder) as staging:
        yield staging
