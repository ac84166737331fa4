"""Which process am I, on which device, and the few numbers that processes agree on each step.

Launched by `torchrun` (one or many nodes) or alone; the environment says which. Tensors of the model travel by NCCL or
gloo; small host numbers always by gloo, so that agreeing on them never waits for the GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process of a training run."""

    rank: int
    size: int
    device: torch.device
    host_group: dist.ProcessGroup | None
    """gloo group of all ranks; None if alone without process groups."""
    local_size: int
    """Processes on this node."""

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes what is written once."""
        return self.rank == 0

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Elementwise sum of `numbers` over all ranks (float64, so counts up to 2^53 are exact)."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(values, group=self.host_group)
        return [float(value) for value in values]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.host_group)

    def share(self, value: T) -> T:
        """The value that rank 0 gave."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.host_group)
        return values[0]

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Go on after the body only if no rank failed in it.

        The first rank that did raises its error, so it is said once; the others exit with 1. For bodies that wait for
        no other rank, or fail on all ranks alike.
        """
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        first = torch.tensor(self.size if failure is None else self.rank)
        dist.all_reduce(first, op=dist.ReduceOp.MIN, group=self.host_group)
        if failure is not None and first == self.rank:
            raise failure
        if first < self.size:
            raise SystemExit(1)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The `items`, of which all ranks have as many; where one cannot be made, all ranks end (`agreed`)."""
        iterator = iter(items)
        while True:
            with self.agreed():
                item = next(iterator, None)
            if item is None:
                return
            yield item


@contextlib.contextmanager
def join_world(device: str = "auto", *, process_groups: bool = False) -> Iterator[World]:
    """Join the run that the environment describes, and leave it at the end.

    Args:
        device: "auto" (CUDA if there is one), "cuda" or "cpu".
        process_groups: make process groups even for a single process (FSDP needs them).
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no CUDA device here; use --device cpu")
    place = torch.device("cpu")
    if device != "cpu" and torch.cuda.is_available():
        place = torch.device("cuda", local_rank)
        torch.cuda.set_device(place)
    if size == 1 and not process_groups:
        yield World(0, 1, place, None, 1)
        return
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    # A run that is alone has no launcher, hence no rendezvous address: an in-memory store is enough.
    store = dist.HashStore() if size == 1 else None
    # Compiling the first step takes minutes and ranks differ in it: the watchdog must outlast that.
    dist.init_process_group(backend, rank=rank, world_size=size, store=store, timeout=timedelta(minutes=30))
    try:
        yield World(rank, size, place, dist.new_group(backend="gloo"), local_size)
    finally:
        dist.destroy_process_group()
