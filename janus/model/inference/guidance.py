"""Classifier-free guidance (paper, section 3.4): the null condition, and how the two predictions are joined."""

from __future__ import annotations

import torch


def null_prompt(prompt: list[int], pad_id: int) -> list[int]:
    """The null condition of a prompt: every token strictly between BOS and BOI is the pad token."""
    return [prompt[0], *[pad_id] * (len(prompt) - 2), prompt[-1]]


def guide(conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance, `l_u + s (l_c - l_u)` (paper, section 3.4), in float32."""
    conditional, unconditional = conditional.float(), unconditional.float()
    return unconditional + scale * (conditional - unconditional)
