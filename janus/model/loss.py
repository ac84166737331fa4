"""Cross-entropy over a wide head, in chunks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 2**26
"""Most logits (fp32 numbers) that exist at once: 256 MiB, 655 tokens of a 102,400-word vocabulary."""


def token_losses(
    hidden: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    *,
    classes: int,
    chunk_logits: int = CHUNK_LOGITS,
) -> torch.Tensor:
    """Cross-entropy of every label under `head`, with at most `chunk_logits` logits alive at a time.

    The logits of a chunk are thrown away after the forward pass and computed again in the backward pass, unless they
    all fit in one chunk.

    Args:
        hidden: [T, H], the states that predict the labels.
        head: maps [t, H] to logits [t, classes].
        labels: int64[T].
        classes: width of the head.
        chunk_logits: see `CHUNK_LOGITS`.

    Returns:
        float32[T], differentiable in `hidden` and the head's parameters. Logits are compared in fp32.
    """

    def losses(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(head(hidden).float(), labels, reduction="none")

    rows = max(1, chunk_logits // classes)
    if len(labels) <= rows:
        return losses(hidden, labels)
    chunks = zip(hidden.split(rows), labels.split(rows), strict=True)
    return torch.cat([checkpoint(losses, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])
