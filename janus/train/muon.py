"""Muon: momentum, orthogonalised by Newton-Schulz iterations, for hidden matrices (Jordan et al., 2024).

The same update as `torch.optim.Muon`, for which a tiny model has too many small matrices: PyTorch takes one at a time,
in bf16. Here all matrices of one shape go through the iterations together, in fp32 on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives all singular values towards 1."""
ITERATIONS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose steps have (nearly) all singular values equal.

    Args:
        groups: parameter groups of 2-D tensors, each with `lr` and `weight_decay` (decoupled, times lr).
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.02, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            shapes: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(tuple(parameter.shape), []).append(parameter)
            for (rows, columns), parameters in shapes.items():
                updates = orthogonalize(torch.stack([self._direction(parameter) for parameter in parameters]))
                # Jordan's scale: a tall matrix may change its outputs as much as a square one.
                lr = group["lr"] * math.sqrt(max(1.0, rows / columns))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(updates.to(parameters[0].dtype)), alpha=-lr)

    def _direction(self, parameter: torch.Tensor) -> torch.Tensor:
        """Nesterov's look-ahead on the moving average of gradients."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(average, MOMENTUM)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """[N, r, c]: each matrix with its singular values drawn near 1 (to between 0.7 and 1.2, not further)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.float32 if matrices.device.type == "cpu" else torch.bfloat16)
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
