"""Gradient norms per module and clipping by the norm over all, for plain and sharded gradients alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from janus.model.network import MODULES
from janus.train.optim import module_of


class Clipper:
    """Measures and clips the gradients of a fixed set of parameters."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        max_norm: float,
        shards: dist.ProcessGroup | None,
        modules: Mapping[str, str] = MODULES,
    ) -> None:
        """Args: trained parameters by name; the group over which FSDP shards each of them, None if it does not; the
        parts they belong to (`Janus.module_paths`).
        """
        by_module: dict[str, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            by_module.setdefault(module_of(name, modules), []).append(parameter)
        self.modules = list(by_module)
        self._parameters = list(chain.from_iterable(by_module.values()))
        self._counts = [len(members) for members in by_module.values()]
        self._max_norm = max_norm
        self._shards = shards

    @torch.no_grad()
    def clip(self) -> torch.Tensor:
        """Scale gradients down to the largest norm allowed.

        Returns float32[len(modules) + 1]: the norm before clipping, over all and then of each module, on the device.
        """
        gradients = list(_local_gradients(self._parameters))
        squares = torch.stack(torch._foreach_norm(gradients, dtype=torch.float32)).square()
        # Sums of slices: an index_add would add on a GPU in whatever order its threads come.
        per_module = torch.stack([part.sum() for part in squares.split(self._counts)])
        if self._shards is not None:
            dist.all_reduce(per_module, group=self._shards)
        total = per_module.sum().sqrt()
        # As torch.nn.utils.clip_grad_norm_: no look at the value, so the host does not wait for the device.
        torch._foreach_mul_(gradients, torch.clamp(self._max_norm / (total + 1e-6), max=1.0))
        return torch.cat([total[None], per_module.sqrt()])


def _local_gradients(parameters: Iterable[nn.Parameter]) -> Iterable[torch.Tensor]:
    for parameter in parameters:
        gradient = parameter.grad
        assert gradient is not None, "every trained parameter has a gradient (janus.train.step.LossModule)"
        yield gradient.to_local() if isinstance(gradient, DTensor) else gradient
