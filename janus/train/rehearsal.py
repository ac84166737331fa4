"""The first step of a run, computed and thrown away: what `--dry-run` adds to the run card."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from janus.packed import NUM_TASKS, PackedBatch
from janus.train.flops import count_tokens
from janus.train.recipe import Recipe
from janus.train.step import accumulate
from janus.train.watch import mean_losses
from janus.train.world import World


@dataclass(frozen=True)
class Rehearsal:
    """What the first step was like."""

    losses: dict[str, float]
    """Mean cross-entropy, of all tasks ("all") and of each."""
    activation_bytes: int
    """Kept by one micro-batch's forward for its backward, on this process; what `selective` recomputation keeps is not
    among them."""
    peak_bytes: int
    """Most memory of the device that the step took, weights and all; 0 on a CPU."""
    seconds: float
    """Forward and backward of the step."""
    tokens: int
    """Of the documents of this process's part."""


def rehearse(module: nn.Module, batches: Sequence[PackedBatch], world: World, recipe: Recipe) -> Rehearsal:
    """Compute the first step without moving a weight. All ranks must call."""
    with kept_bytes(module) as kept:
        # Also the warm-up of what is timed below.
        accumulate(module, batches[:1], world, recipe)
    activation_bytes = kept[0]
    _wait(world)
    start = time.perf_counter()
    done = accumulate(module, batches, world, recipe)
    _wait(world)
    seconds = time.perf_counter() - start
    totals = [float(column) for column in done.sums.sum(dim=0)]
    return Rehearsal(
        losses=mean_losses(world.sum(totals[:NUM_TASKS]), [float(count) for count in done.global_tokens]),
        activation_bytes=activation_bytes,
        peak_bytes=torch.cuda.max_memory_allocated(world.device) if world.device.type == "cuda" else 0,
        seconds=seconds,
        tokens=sum(count_tokens(batch) for batch in batches),
    )


@contextmanager
def kept_bytes(module: nn.Module) -> Iterator[list[int]]:
    """Counts, in the one number of the list, the bytes that forwards inside keep for their backwards.

    A storage counts once, however many tensors are views of it; weights do not count.
    """
    kept = [0]
    seen = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    held: list[torch.UntypedStorage] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            held.append(storage)  # or its address might be given to another
            kept[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def _wait(world: World) -> None:
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
