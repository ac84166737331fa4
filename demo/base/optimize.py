"""The optimiser of the base models: Muon on hidden matrices, AdamW on the rest, one cosine for both."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from janus.train.muon import Muon
from janus.train.recipe import Schedule
from janus.train.schedule import lr_factor


class Optimizer:
    """Muon (orthogonalised momentum) moves the 2-D hidden weights, AdamW embeddings, heads, norms and biases.

    Args:
        module: Everything that is trained.
        muon: Learning rate of the hidden matrices, at its peak.
        adamw: Learning rate of the rest, at its peak.
        steps: Length of the schedule: 5% linear warm-up, then cosine to zero.
        not_hidden: Names of 2-D parameters that are no hidden matrices (first and last layers).
    """

    def __init__(
        self, module: nn.Module, *, muon: float, adamw: float, steps: int, not_hidden: Iterable[str] = ()
    ) -> None:
        outer = tuple(not_hidden)
        hidden: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in module.named_parameters():
            is_hidden = parameter.ndim == 2 and not name.startswith(outer) and "embed" not in name
            (hidden if is_hidden else rest).append(parameter)
        self._parameters = hidden + rest
        self._steps, self._done = steps, 0
        self._schedule = Schedule("cosine", warmup=max(1, steps // 20))
        self._parts = [
            (Muon([{"params": hidden, "lr": muon, "weight_decay": 0.0}]), muon),
            (torch.optim.AdamW(rest, lr=adamw, betas=(0.9, 0.95), weight_decay=0.0), adamw),
        ]

    def step(self, loss: torch.Tensor) -> None:
        """One update by the gradient of `loss`, clipped to norm 1."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        factor = lr_factor(self._schedule, self._done, self._steps)
        for part, peak in self._parts:
            for group in part.param_groups:
                group["lr"] = peak * factor
            part.step()
            part.zero_grad(set_to_none=True)
        self._done += 1
