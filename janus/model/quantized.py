"""Frozen weights in 4 bits under a low-rank adapter (QLoRA, arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

import torch
from torch import nn

from janus.model.lora import Adapter, LoraLinear

try:
    import bitsandbytes
    from bitsandbytes import functional
except ImportError as missing:
    raise ValueError(
        f"4-bit weights and 8-bit AdamW need the extra `quantized`: pip install 'janus-forge[quantized]' ({missing})"
    ) from None


class QuantizedLoraLinear(LoraLinear):
    """A linear layer with an adapter, whose own weight is in NormalFloat 4 with double quantisation.

    `weight` is uint8[out * in / 2, 1]. A merged model is made from the weights before quantisation, not from these.
    """

    def __init__(self, base: nn.Linear, adapter: Adapter, seed: int) -> None:
        """Quantise the weight of `base` where it is; see `LoraLinear`."""
        packed, self_state = functional.quantize_4bit(base.weight.data, quant_type="nf4", compress_statistics=True)
        base.weight = nn.Parameter(packed, requires_grad=False)
        # Before the parent's __init__, which asks for the plain weight; nn.Module would refuse a module or parameter.
        object.__setattr__(self, "quant_state", self_state)
        super().__init__(base, adapter, seed)

    def plain_weight(self) -> torch.Tensor:
        """W, float[out, in], as near as 4 bits come."""
        return functional.dequantize_4bit(self.weight, self.quant_state)

    def base_forward(self, x: torch.Tensor) -> torch.Tensor:
        """W x, without bias, in the type of `x` or of autocast."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return bitsandbytes.matmul_4bit(x, self.weight.t(), quant_state=self.quant_state)
