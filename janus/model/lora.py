"""Low-rank adapters on linear layers: LoRA (arXiv 2106.09685) and DoRA (arXiv 2402.09353).

A layer with weight W computes `W x + b + (alpha / rank) B A x`, where only A [rank, in] and B [out, rank] train. DoRA
also trains the length of each row of the sum. `W` keeps its name, and adapters have the names peft gives them, so a
state dict is that of the model plus `.lora_A.weight`, `.lora_B.weight` and `.lora_magnitude_vector`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

LORA_A, LORA_B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
ADAPTER_NAMES = (LORA_A, LORA_B, MAGNITUDE)


@dataclass(frozen=True)
class Adapter:
    """What all adapters of a model have in common."""

    rank: int
    alpha: float
    dropout: float = 0.0
    """Share of the inputs of A that are zeroed in training."""
    dora: bool = False

    @property
    def scaling(self) -> float:
        """Factor on B A."""
        return self.alpha / self.rank


class LoraLinear(nn.Linear):
    """A linear layer whose own weights are frozen, with a low-rank adapter in float32 that trains."""

    lora_magnitude_vector: nn.Parameter | None

    def __init__(self, base: nn.Linear, adapter: Adapter, seed: int) -> None:
        """Put an adapter on `base`, whose parameters are taken over, not copied.

        As in peft, A starts as a random matrix (uniform within 1 / sqrt(in)) and B as zeros, so that the layer computes
        what it did. A is a function of `seed` alone.
        """
        nn.Module.__init__(self)  # not the parent's: it would allocate and draw a weight
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.adapter = adapter
        device = base.weight.device
        self.lora_A = nn.Linear(self.in_features, adapter.rank, bias=False, device="meta")
        self.lora_B = nn.Linear(adapter.rank, self.out_features, bias=False, device="meta")
        self.lora_A.weight = nn.Parameter(torch.empty(adapter.rank, self.in_features, device=device))
        self.lora_B.weight = nn.Parameter(torch.zeros(self.out_features, adapter.rank, device=device))
        if device.type != "meta":
            bound = 1 / math.sqrt(self.in_features)
            drawn = torch.rand(self.lora_A.weight.shape, generator=torch.Generator().manual_seed(seed))
            self.lora_A.weight.data.copy_((drawn * 2 - 1) * bound)
        self.lora_magnitude_vector = None
        if adapter.dora:
            self.lora_magnitude_vector = nn.Parameter(row_norms(self.plain_weight()))

    def plain_weight(self) -> torch.Tensor:
        """W, float[out, in]."""
        return self.weight.detach()

    def base_forward(self, x: torch.Tensor) -> torch.Tensor:
        """W x, without bias."""
        return F.linear(x, self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float[..., out] of float[..., in]. Dropout acts in training and where gradients are wanted only."""
        result = self.base_forward(x)
        update = x if x.dtype == self.lora_A.weight.dtype or torch.is_autocast_enabled(x.device.type) else x.float()
        if self.adapter.dropout and self.training and torch.is_grad_enabled():
            update = F.dropout(update, self.adapter.dropout)
        update = self.lora_B(self.lora_A(update)) * self.adapter.scaling
        result = result + update.to(result.dtype)
        if self.lora_magnitude_vector is not None:
            with torch.no_grad():  # the length of the sum counts as a constant (section 4.3)
                whole = self.plain_weight() + merged_update(self.lora_A.weight, self.lora_B.weight, self.adapter)
                norms = row_norms(whole)
            result = result * (self.lora_magnitude_vector / norms).to(result.dtype)
        return result if self.bias is None else result + self.bias.to(result.dtype)


def merged_update(lora_a: torch.Tensor, lora_b: torch.Tensor, adapter: Adapter) -> torch.Tensor:
    """float32[out, in]: what the adapter adds to W."""
    with torch.autocast(lora_a.device.type, enabled=False):
        return lora_b.float() @ lora_a.float() * adapter.scaling


def row_norms(weight: torch.Tensor) -> torch.Tensor:
    """float32[out]: length of each row of float[out, in]."""
    return torch.linalg.vector_norm(weight.float(), dim=1)


def merge_weight(
    weight: torch.Tensor, lora_a: torch.Tensor, lora_b: torch.Tensor, magnitude: torch.Tensor | None, adapter: Adapter
) -> torch.Tensor:
    """The weight of a plain layer that computes the same, in the type of `weight`."""
    whole = weight.float() + merged_update(lora_a, lora_b, adapter)
    if magnitude is not None:
        whole = whole * (magnitude.float() / row_norms(whole))[:, None]
    return whole.to(weight.dtype)


def merge_tensors(tensors: dict[str, torch.Tensor], adapter: Adapter) -> dict[str, torch.Tensor]:
    """A state dict with its adapters merged into the weights they stand beside."""
    merged = {name: tensor for name, tensor in tensors.items() if not is_adapter(name)}
    for name in tensors:
        if name.endswith(f".{LORA_A}"):
            layer = name.removesuffix(LORA_A)
            weight, magnitude = merged[f"{layer}weight"], tensors.get(layer + MAGNITUDE)
            merged[f"{layer}weight"] = merge_weight(weight, tensors[name], tensors[layer + LORA_B], magnitude, adapter)
    return merged


def is_adapter(name: str) -> bool:
    """Whether the tensor `name` belongs to an adapter."""
    return name.endswith(tuple(f".{part}" for part in ADAPTER_NAMES))


def adaptable(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Names of the linear layers of `model` at or below `paths`, in the order of the module tree."""
    wanted = tuple(paths)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(name == path or name.startswith(f"{path}.") for path in wanted)
    ]


def add_adapters(
    model: nn.Module,
    layers: Iterable[str],
    adapter: Adapter,
    *,
    seed: int,
    kind: type[LoraLinear] = LoraLinear,
    **options: Any,
) -> None:
    """Put an adapter on each of `layers` of `model`, in place, and freeze the layer's own weights.

    A layer's start depends on `seed` and its name alone: not on the order, the device or other layers.
    """
    for name in list(layers):
        parent, _, leaf = name.rpartition(".")
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        base.requires_grad_(False)
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        layer = kind(base, adapter, int.from_bytes(digest[:7], "little"), **options).train(base.training)
        setattr(model.get_submodule(parent), leaf, layer)
