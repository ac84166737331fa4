"""Model FLOPs of a step, and the peak they are compared with (MFU).

Convention, printed with every MFU: 2 FLOPs per multiply-add; only what the model needs: no recomputation, no padding of
kernels, causal attention counted as half a square per document; each head only at its own labels; the backward of a
frozen module costs its activations' half or, with nothing trained before it, nothing. Peak: dense bf16 of the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from janus.model.network import MODULES, Janus
from janus.packed import PackedBatch

CONVENTION = "model FLOPs (causal attention, heads at labels only, no recomputation) / dense bf16 peak"

PEAK_FLOPS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 FLOP/s by a part of the device name, first match; vendor data sheets."""


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of a CUDA device; None for CPUs and devices not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


@dataclass(frozen=True)
class Flops:
    """FLOPs of forward and backward, per unit of work."""

    per_position: float
    """LLM matrices, per position of a pack."""
    per_square: float
    """LLM attention, per squared document length."""
    per_image: float
    """Understanding encoder and adaptor, per image."""
    per_code: float
    """Generation adaptor and image head, per code."""
    per_text_label: float
    """Text head, per label."""

    def step(self, batches: Iterable[PackedBatch]) -> float:
        """FLOPs of one step's micro-batches."""
        total = 0.0
        for batch in batches:
            squares = float(batch.lengths.double().square().sum())
            total += self.per_position * batch.input_ids.numel() + self.per_square * squares
            total += self.per_image * batch.pixels.shape[0] + self.per_code * batch.codes.numel()
            total += self.per_text_label * batch.text_labels.shape[0]
        return total

    def typical_step(self, sequences: int, seq_len: int) -> float:
        """FLOPs of the LLM over full packs of one document each: what the run card promises before seeing data."""
        return sequences * (self.per_position * seq_len + self.per_square * seq_len**2)


def count_flops(janus: Janus, train: Iterable[str], adapted: Iterable[str] = ()) -> Flops:
    """FLOPs of `janus` with the modules `train` trained whole and `adapted` by adapters (which themselves, some
    hundredths of their module, are left out).
    """
    whole, by_adapter = set(train), set(adapted)
    trained = whole | by_adapter

    def matrices(module: str, skip: str = "embed") -> int:
        named = janus.get_submodule(MODULES[module]).named_parameters()
        return sum(parameter.numel() for name, parameter in named if parameter.ndim >= 2 and skip not in name)

    def cost(module: str, before: Iterable[str]) -> int:
        """2 per weight forward, 2 for activations' gradients if something before it trains or an adapter inside, 2 for
        weights' if it trains whole.
        """
        return 2 + 2 * bool(trained & set(before) or module in by_adapter) + 2 * (module in whole)

    encoder, text = janus.config.vision_config, janus.config.text_config
    patches = janus.config.vision_config.num_image_tokens
    upstream = ("understanding_encoder", "understanding_adaptor", "code_embedding", "generation_adaptor")
    encoder_cost = cost("understanding_encoder", ())
    per_image = matrices("understanding_encoder", skip="position_embedding") * patches * encoder_cost
    per_image += 2 * patches**2 * encoder.hidden_size * encoder.num_hidden_layers * encoder_cost
    per_image += matrices("understanding_adaptor") * patches * cost("understanding_adaptor", ("understanding_encoder",))
    attention_width = text.num_attention_heads * (
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    )
    head_before = (*upstream, "llm")
    return Flops(
        per_position=matrices("llm") * cost("llm", upstream),
        # Attention has no weights: its backward is twice its forward wherever a gradient passes.
        per_square=attention_width * text.num_hidden_layers * (6 if trained & {*upstream, "llm"} else 2),
        per_image=per_image,
        per_code=matrices("generation_adaptor") * cost("generation_adaptor", ("code_embedding",))
        + matrices("image_head") * cost("image_head", head_before),
        per_text_label=matrices("text_head") * cost("text_head", head_before),
    )
