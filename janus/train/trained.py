"""What trains in a model: whole modules, or low-rank adapters beside frozen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from janus.model.lora import Adapter, LoraLinear, adaptable, add_adapters
from janus.model.network import MODULES, Janus
from janus.train.optim import freeze, module_of
from janus.train.recipe import Lora, Recipe


def adapter_of(lora: Lora) -> Adapter:
    """What the adapters of a recipe have in common."""
    return Adapter(lora.rank, lora.alpha, lora.dropout, lora.dora)


def choose_trained(janus: Janus, train: Iterable[str], lora: Lora, *, seed: int) -> dict[str, nn.Parameter]:
    """Leave the modules `train` trainable and freeze the rest, with adapters where `lora` wants them.

    Args:
        janus: on its device; changed in place.
        train: modules that train whole.
        lora: adapters; none at rank 0.
        seed: of the adapters' start.

    Returns:
        The trained parameters by name.

    Raises ValueError with one line if the weights are to be quantised and bitsandbytes is not installed.
    """
    freeze(janus, train)
    if lora.rank:
        kind: type[LoraLinear] = LoraLinear
        if lora.quantize == "4bit":
            from janus.model.quantized import QuantizedLoraLinear

            kind = QuantizedLoraLinear
        layers = adaptable(janus, [MODULES[module] for module in lora.modules])
        add_adapters(janus, layers, adapter_of(lora), seed=seed, kind=kind)
        for module in janus.modules():
            if isinstance(module, LoraLinear):
                module.train()  # for dropout: the module it is in was frozen
    return {name: parameter for name, parameter in janus.named_parameters() if parameter.requires_grad}


def weight_types(recipe: Recipe) -> torch.dtype | Callable[[str], torch.dtype]:
    """The type of each weight in training: float32, but bfloat16 for frozen ones beside adapters.

    With `precision` fp32, everything is float32.
    """
    if not recipe.lora.rank or recipe.precision == "fp32":
        return torch.float32
    return lambda name: torch.float32 if module_of(name) in recipe.train else torch.bfloat16


def seed_dropout(recipe: Recipe, step: int, rank: int) -> None:
    """Have dropout in step `step` of this rank depend on nothing before it, so that a resumed run draws the same."""
    if recipe.lora.dropout:
        torch.manual_seed((recipe.data.seed * 1_000_003 + step) * 65_537 + rank)


def read_lora(record: dict[str, Any]) -> Lora:
    """The adapters of a run, from its `recipe.json`; records of runs before there were any have none."""
    fields = dict(record["recipe"].get("lora", {}))
    fields["modules"] = tuple(fields.get("modules", ()))
    return Lora(**fields)
