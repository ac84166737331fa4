"""Attention for packed sequences: document lengths in, no dense mask.

A pack holds whole documents end to end, and no document may see another. Resetting `position_ids` alone does not ensure
that (with a cache allowed, `transformers` ignores them), and a dense mask costs L² per pack. So the documents' lengths
travel to every attention layer as the keyword argument `packing`, which the decoders of `transformers` hand through to
their attention function, and the implementation registered here under the name `packed` uses them:

- on a GPU in half precision, PyTorch's variable-length flash attention;
- elsewhere (CPU, fp32, head sizes flash attention lacks), plain causal attention per document, with documents of
  similar length batched together. Exact, and on a CPU 2-7 times faster than a block mask (docs/model.md).

Without `packing` (generation with a cache) the layer behaves as `sdpa` does.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"
"""Value of `_attn_implementation` that asks for this module."""

UNSUPPORTED = ("softcap", "s_aux", "position_bias")
"""Attention variants of some LLMs that have no packed form here; asking for one raises instead of being ignored."""


class Packing:
    """Where the documents of B packs of L tokens lie.

    No dataclass: FSDP copies dataclasses among a module's arguments, and with them what is worked out once per batch.

    Attributes:
        lengths: int32[D], tokens of each document, in order; they sum to B*L and none crosses a multiple of L.
        row_length: L.
        boundaries: int32[D+1], flat position at which each document starts, and the end.
    """

    def __init__(self, lengths: torch.Tensor, row_length: int) -> None:
        self.lengths = lengths
        self.row_length = row_length
        # Here, once, before the layers (which may be compiled) ask for them.
        self.boundaries = F.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))

    @property
    def mask(self) -> torch.Tensor:
        """What to give the LLM as `attention_mask`: a 4-D tensor, which makes it build no mask of its own."""
        return self.boundaries[None, None, None]

    @cached_property
    def groups(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Documents batched by length: flat positions int64[n, m] of each group, and how to undo the batching.

        Documents share a group when their lengths have the same power of two above them. Shorter ones are filled up
        by repeating their last token: behind the document, where causal attention never looks. The second value,
        int64[B*L], says where each flat position lies in the groups' concatenated rows.
        """
        lengths = self.lengths.to("cpu", torch.int64)
        starts = lengths.cumsum(0) - lengths
        exponents = torch.ceil(torch.log2(lengths.clamp(min=1).double())).to(torch.int64)
        inverse = torch.empty(int(lengths.sum()), dtype=torch.int64)
        positions, offset = [], 0
        for exponent in exponents.unique().tolist():
            members = (exponents == exponent) & (lengths > 0)
            if not members.any():
                continue
            start, length = starts[members, None], lengths[members, None]
            column = torch.arange(int(length.max()))
            group = start + torch.minimum(column, length - 1)
            real = column < length
            inverse[group[real]] = offset + torch.arange(group.numel()).view_as(group)[real]
            offset += group.numel()
            positions.append(group.to(self.lengths.device))
        return positions, inverse.to(self.lengths.device)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each document of `packing`; the attention function of `transformers` layers.

    Args:
        module: the attention layer (unused but for sdpa's own needs).
        query: [B, H, L, d]. key, value: [B, H_kv, L, d].
        attention_mask: ignored when `packing` is given, else as in sdpa.
        dropout: attention dropout probability.
        scaling: factor on the scores; None is 1/sqrt(d).
        packing: the documents; None for ordinary sequences.
        sliding_window: how many tokens back a token sees, itself included; None for all.
        kwargs: passed on to sdpa when `packing` is None.

    Returns:
        [B, L, H, d] and None (no attention weights).
    """
    if packing is None:
        if attention_mask is not None and attention_mask.dtype == torch.int32:
            raise RuntimeError(
                f"{type(module).__name__} did not receive its `packing` argument: this LLM does not hand keyword "
                "arguments through to its attention layers, which packed training needs"
            )
        if sliding_window is not None:
            kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    for name in UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(f"{type(module).__name__} uses {name}, which packed attention does not have")

    batch, _, length, _ = query.shape
    # [B, H, L, d] -> [B*L, H, d], one long row of documents.
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    if torch.is_autocast_enabled(query.device.type):
        # Rotary embedding turns query and key to fp32 under autocast.
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    attend = _flash if _flash_can(query, value, dropout) else _grouped
    output = attend(query, key, value, packing, dropout, scaling, sliding_window)
    return output.unflatten(0, (batch, length)), None


def _flash_can(query: torch.Tensor, value: torch.Tensor, dropout: float) -> bool:
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] == value.shape[-1] <= 256
        and query.shape[-1] % 8 == 0
        and dropout == 0.0
    )


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    del dropout
    # The longest document is at most a pack, known without asking the GPU (which would stall it every batch).
    longest = packing.row_length
    back = -1 if sliding_window is None else sliding_window - 1
    # Not cuDNN, which plans anew for every number of documents, and that differs from batch to batch.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return varlen_attn(
            query,
            key,
            value,
            packing.boundaries,
            packing.boundaries,
            longest,
            longest,
            scale=scaling,
            window_size=(back, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )


def _grouped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packing: Packing,
    dropout: float,
    scaling: float | None,
    sliding_window: int | None,
) -> torch.Tensor:
    repeat = query.shape[1] // key.shape[1]
    positions, inverse = packing.groups
    outputs = []
    for index in positions:
        documents, length = index.shape
        # [n*m, H, d] -> [n, H, m, d]
        q, k, v = (
            x.index_select(0, index.flatten()).unflatten(0, (documents, length)).transpose(1, 2)
            for x in (query, key, value)
        )
        if repeat > 1:
            k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        band = None
        if sliding_window is not None and sliding_window < length:
            square = torch.ones(length, length, dtype=torch.bool, device=q.device)
            band = square.tril() & square.triu(1 - sliding_window)
        o = F.scaled_dot_product_attention(
            q, k, v, attn_mask=band, dropout_p=dropout, is_causal=band is None, scale=scaling
        )
        outputs.append(o.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).index_select(0, inverse)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
