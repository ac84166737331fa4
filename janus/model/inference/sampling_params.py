"""How the next code or token is drawn from logits: temperature, top-k and top-p, or greedily."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from janus.model.inference.noise import gumbel


@dataclass(frozen=True)
class SamplingParams:
    """How a choice is made. Raises ValueError, naming the parameter and its range, for values out of range."""

    temperature: float = 1.0
    """0 takes the likeliest choice."""
    top_k: int | None = None
    """Only the k likeliest choices ..."""
    top_p: float | None = None
    """... and of those only the smallest set that holds this much probability."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature}: expected 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k}: expected 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: expected 0 < top_p <= 1")


def keep_top(logits: torch.Tensor, top_k: int | None, top_p: float | None) -> torch.Tensor:
    """`logits` (float[B, K]) with everything outside the top k, then outside the nucleus of mass `top_p`, at -inf."""
    if top_k is not None and top_k < logits.shape[-1]:
        lowest_kept = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < lowest_kept, -torch.inf)
    if top_p is not None and top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities  # mass of all likelier choices: the first is always kept
        dropped = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    return logits


def sample(logits: torch.Tensor, keys: torch.Tensor, step: int, params: SamplingParams) -> torch.Tensor:
    """int64[B]: one choice per row of `logits` (float[B, K]); the likeliest at temperature 0, a draw otherwise."""
    logits = logits.float()
    if params.temperature == 0:
        return logits.argmax(dim=-1)
    logits = keep_top(logits / params.temperature, params.top_k, params.top_p)
    return (logits + gumbel(keys, step, logits.shape[-1])).argmax(dim=-1)
