"""Adapter folders as peft lays them out, and adapters merged into a model's weights.

    adapter_model.safetensors    every trained tensor, its name behind "base_model.model."
    adapter_config.json          peft's LoraConfig

`peft.PeftModel.from_pretrained(model, folder)` opens one on a plain Hugging Face Janus, into which `janus.export` turns
a model of either layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from janus.model.checkpoints.sums import read_sums, write_sums
from janus.model.checkpoints.tensors import read_json, read_tensor_file
from janus.model.lora import LORA_A, Adapter, is_adapter, merge_tensors
from schemas.files import atomic_folder

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_REFUSED = ("use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias", "megatron_config")
"""Fields of peft's LoraConfig that change what an adapter computes and that no adapter of ours has."""


@dataclass(frozen=True)
class AdapterFolder:
    """A whole adapter in memory."""

    adapter: Adapter
    tensors: dict[str, torch.Tensor]
    """By the names of the model with its adapters: LoRA's, and those of modules that were trained whole."""


def write_adapter(
    folder: Path, adapter: Adapter, tensors: Mapping[str, torch.Tensor], *, whole: Sequence[str], base: str
) -> None:
    """Write an adapter folder, whole or not at all.

    Args:
        folder: to write; replaced if it is there.
        adapter: what the adapters have in common.
        tensors: every trained tensor.
        whole: paths of the modules that were trained whole.
        base: the model the adapter is of, for people.
    """
    layers = sorted(name.removesuffix(f".{LORA_A}") for name in tensors if name.endswith(f".{LORA_A}"))
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "modules_to_save": list(whole) or None,
        "peft_type": "LORA",
        "r": adapter.rank,
        "target_modules": layers,
        "task_type": None,
        "use_dora": adapter.dora,
    }
    named = {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_folder(folder) as staging:
        (staging / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(named, staging / WEIGHTS, metadata={"format": "pt"})
        write_sums(staging)


def read_adapter(folder: Path) -> AdapterFolder:
    """Read an adapter folder, ours or peft's.

    Raises FileNotFoundError or ValueError with one line: a file is missing or damaged, or it is another kind of
    adapter.
    """
    path = Path(folder) / CONFIG
    sums = read_sums(folder)
    sums.check_small()
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{path}: peft_type is {config.get('peft_type')!r}, expected 'LORA'")
    for name in _REFUSED:
        if config.get(name):
            raise ValueError(f"{path}: {name} is {config[name]!r}, which janus cannot merge; merge it with peft")
    adapter = Adapter(
        rank=_number(config, "r", path),
        alpha=_number(config, "lora_alpha", path),
        dropout=float(config.get("lora_dropout") or 0),
        dora=bool(config.get("use_dora")),
    )
    file = Path(folder) / WEIGHTS
    sums.check(file)
    tensors = {}
    for name, tensor in read_tensor_file(file).items():
        if not name.startswith(_PREFIX):
            raise ValueError(f"{file}: {name} is not named as peft names tensors ({_PREFIX}...)")
        # Where an adapter is on the text head, peft saves the head itself too.
        tensors[name.removeprefix(_PREFIX).replace(".base_layer.", ".")] = tensor
    return AdapterFolder(adapter, tensors)


def _number(config: Mapping[str, Any], name: str, path: Path) -> Any:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{path}: {name} is {value!r}, expected a positive number")
    return value


def merge_adapter(
    tensors: Mapping[str, torch.Tensor], adapter: Adapter, trained: Mapping[str, torch.Tensor], *, where: str
) -> dict[str, torch.Tensor]:
    """A model's tensors with an adapter merged in, each in the type it had: the sum is made in float32.

    Args:
        tensors: of the model, under Hugging Face names.
        adapter: what the adapters have in common.
        trained: the adapters' tensors, and those of modules trained whole, which replace the model's.
        where: what to name in messages.

    Raises ValueError with one line if the adapter is not one of this model.
    """
    for name, tensor in trained.items():
        layer = name
        if is_adapter(name):
            layer = f"{name.rsplit('.lora_', 1)[0]}.weight"
        if layer not in tensors:
            raise ValueError(f"{where}: {name} is on a part that the model does not have")
        expected = tuple(tensors[layer].shape)
        if is_adapter(name):
            expected = _adapter_shape(name, expected, adapter)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{where}: {name} has shape {tuple(tensor.shape)}, expected {expected}")
    whole = {name: tensor.to(tensors[name].dtype) for name, tensor in trained.items() if not is_adapter(name)}
    adapters = {name: tensor for name, tensor in trained.items() if is_adapter(name)}
    return merge_tensors({**tensors, **whole, **adapters}, adapter)


def _adapter_shape(name: str, weight: tuple[int, ...], adapter: Adapter) -> tuple[int, ...]:
    if name.endswith(LORA_A):
        return (adapter.rank, weight[1])
    return (weight[0],) if name.endswith("vector") else (weight[0], adapter.rank)
