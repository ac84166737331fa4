"""Files of tensors: safetensors or PyTorch, single or sharded, read without running code, written atomically."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from janus.model.checkpoints.sums import read_sums, write_sums
from schemas.files import atomic_folder

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where the weights of a model folder may be, in the order they are looked for."""
_SHARD_SIZE = "5GB"


class WeightFiles:
    """The weights in a folder by name. Files are mapped into memory: a tensor that is not used costs no memory.

    Attributes:
        path: the file of weights, or the index of the shards.
    """

    def __init__(self, folder: str | Path) -> None:
        """Find the weights and their names.

        Raises:
            FileNotFoundError: no weights, or a shard that the index names is missing.
            ValueError: a file that is not what its name or the folder's SHA256SUMS says.
        """
        folder = Path(folder)
        self._sums = read_sums(folder)
        for name in WEIGHT_FILES:
            if (folder / name).is_file():
                self.path = folder / name
                break
        else:
            raise FileNotFoundError(f"{folder}: no weights; expected one of {', '.join(WEIGHT_FILES)}")
        self._open: dict[Path, dict[str, torch.Tensor]] = {}
        if self.path.suffix == ".json":
            self._sums.check(self.path)
        self._file_of = _read_index(self.path) if self.path.suffix == ".json" else {}
        if self.path.suffix != ".json":
            self._file_of = dict.fromkeys(self._tensors(self.path), self.path)

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._file_of)

    @property
    def files(self) -> list[Path]:
        """All files that hold a part of the weights, the index among them."""
        return sorted({self.path, *self._file_of.values()})

    def read(self, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
        """The tensors called `names` (all of them by default), on the CPU; only files that hold one are opened.

        Raises:
            ValueError: a file is damaged, or lacks a tensor that the index says it holds.
        """
        found = {}
        for name in self._file_of if names is None else names:
            file = self._file_of[name]
            if name not in self._tensors(file):
                raise ValueError(f"{file}: lacks {name}, which {self.path.name} says it holds")
            found[name] = self._tensors(file)[name]
        return found

    def _tensors(self, file: Path) -> dict[str, torch.Tensor]:
        if file not in self._open:
            self._sums.check(file)
            self._open[file] = read_tensor_file(file)
        return self._open[file]


def _read_index(path: Path) -> dict[str, Path]:
    """The shard of each tensor. Shards must lie beside the index: a name from a file is no path."""
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{path}: not an index of weights: it has no weight_map")
    file_of = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ValueError(f"{path}: puts {name} into {shard!r}, which is no file of this folder")
        if Path(shard).suffix not in (".safetensors", ".bin"):
            raise ValueError(f"{path}: puts {name} into {shard!r}, which is no file of weights")
        file_of[name] = path.parent / shard
    for file in sorted(set(file_of.values())):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: not found, but {path.name} names it")
    return file_of


def read_tensor_file(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of one .safetensors file or PyTorch checkpoint (a mapping of tensors, read with `weights_only`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something other than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path}: not a readable weights file: {first_line(error)}") from None
    content = load_torch_file(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{path}: expected a mapping from names to tensors")
    return dict(content)


def load_torch_file(path: Path) -> object:
    """What `torch.save` wrote into the file, read with `weights_only`: tensors and plain containers, no code.

    Raises:
        ValueError: it is damaged, or holds more than that.
    """
    try:
        # Files of torch before 1.6 are no zip archives and cannot be mapped into memory.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # of a damaged file, torch raises whatever its unpickler stumbles over
        if type(error).__name__ == "UnpicklingError":
            raise ValueError(f"{path}: damaged, or holds more than tensors, which is refused (weights_only)") from None
        raise ValueError(f"{path}: not a readable weights file: {first_line(error)}") from None


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
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON: {first_line(error)}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return value


def first_line(error: Exception) -> str:
    """What the error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder that becomes the model folder `folder`, with its SHA256SUMS, when the block ends well; see
    `atomic_folder`.

    Raises:
        FileExistsError: `folder` exists and is not a model folder: it is not ours to replace.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: exists and is not a model folder; name a new or empty folder")
    with atomic_folder(folder) as staging:
        yield staging
        write_sums(staging)
