"""Model FLOPs of a step, and the peak they are compared with (MFU).

Convention, printed with every MFU: 2 FLOPs per multiply-add; only what the model needs for the documents: no padding,
no recomputation, causal attention counted as half a square per document; each head only at its own labels; in the
backward, the gradients of weights where they train, and those of activations where something before them trains.
Peak: dense bf16 of the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from janus.model.network import MODULES, Janus
from janus.packed import PackedBatch

CONVENTION = "model FLOPs (documents without padding, causal attention, heads at labels only) / dense bf16 peak"

PEAK_FLOPS = {
    "GB300": 2500e12,
    "GB200": 2500e12,
    "B300": 2250e12,
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800 PCIe": 756e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "A30": 165e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 6000 Ada": 364e12,
    "RTX A6000": 155e12,
    "RTX 4090 D": 147e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bf16 FLOP/s with sums in fp32, by words of the device name, first match; vendor data sheets."""


def peak_of(name: str) -> float | None:
    """Dense bf16 peak of a CUDA device by its name; None for one that is not in the table."""
    return next((peak for words, peak in PEAK_FLOPS.items() if re.search(rf"\b{words}\b", name)), None)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of a device; None for CPUs and devices not in the table."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


@dataclass(frozen=True)
class Flops:
    """FLOPs of forward and backward, per unit of work."""

    per_position: float
    """LLM matrices, per token of a document."""
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
            squares = float(batch.lengths.double().square().sum()) - sum(tail**2 for tail in batch.padding)
            total += self.per_position * count_tokens(batch) + self.per_square * squares
            total += self.per_image * batch.pixels.shape[0] + self.per_code * batch.codes.numel()
            total += self.per_text_label * batch.text_labels.shape[0]
        return total

    def typical_step(self, sequences: int, seq_len: int) -> float:
        """FLOPs of the LLM over full packs of one document each: what the run card promises before seeing data."""
        return sequences * (self.per_position * seq_len + self.per_square * seq_len**2)


def count_tokens(batch: PackedBatch) -> int:
    """Tokens of the documents of a batch."""
    return batch.input_ids.numel() - sum(batch.padding)


def count_flops(janus: Janus, train: Iterable[str], adapted: Iterable[str] = ()) -> Flops:
    """FLOPs of `janus` with the modules `train` trained whole and `adapted` by adapters (which themselves, some
    hundredths of their module, are left out).
    """
    whole, by_adapter = set(train), set(adapted)
    trained = whole | by_adapter

    def matrices(module: str) -> list[tuple[str, int]]:
        named = janus.get_submodule(MODULES[module]).named_parameters()
        tables = ("position_embedding", "embed_tokens")
        return [(name, p.numel()) for name, p in named if p.ndim >= 2 and not any(table in name for table in tables)]

    def cost(module: str, before: Iterable[str]) -> int:
        """Per use of the module: 2 per weight forward, 2 for its own gradient where it trains whole, and 2 for that of
        what comes in, where something before it trains: another module, or an earlier layer of its own.
        """
        total = 0
        for number, (_, weights) in enumerate(matrices(module)):
            incoming = bool(trained & set(before)) or (module in trained and number > 0)
            total += weights * (2 + 2 * (module in whole) + 2 * incoming)
        return total

    encoder, text = janus.config.vision_config, janus.config.text_config
    patches = janus.config.vision_config.num_image_tokens
    upstream = ("understanding_encoder", "understanding_adaptor", "code_embedding", "generation_adaptor")
    # Attention has no weights: its backward is twice its forward wherever a gradient passes.
    passes = 6 if "understanding_encoder" in trained else 2
    attention = 2 * patches**2 * encoder.hidden_size * encoder.num_hidden_layers * passes
    per_image = patches * cost("understanding_encoder", ()) + attention
    per_image += patches * cost("understanding_adaptor", ("understanding_encoder",))
    attention_width = text.num_attention_heads * (
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    )
    head_before = (*upstream, "llm")
    return Flops(
        per_position=cost("llm", upstream),
        per_square=attention_width * text.num_hidden_layers * (6 if trained & {*upstream, "llm"} else 2),
        per_image=per_image,
        per_code=cost("generation_adaptor", ("code_embedding",)) + cost("image_head", head_before),
        per_text_label=cost("text_head", head_before),
    )
