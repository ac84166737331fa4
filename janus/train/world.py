"""Which process am I, on which device, and the few numbers that processes agree on each step.

Launched by `torchrun` (one or many nodes) or alone; the environment says which. Tensors of the model travel by NCCL or
gloo; small host numbers always by gloo, so that agreeing on them never waits for the GPU.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

FIRST_TIMEOUT = timedelta(minutes=30)
"""Compiling the first steps takes minutes, and ranks differ in it: waiting for one another must outlast that."""
STEADY_TIMEOUT = timedelta(minutes=10)
"""After the first step: so long no rank waits but for one that is gone. Host groups keep the first: one rank samples
and writes while the others wait.
"""
TRACE_PREFIX = "nccl-trace-rank-"
"""Files in the run folder, with the number of the rank behind it."""


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
    device_note: str = ""
    """Why it is this device, where that is not what it was asked for."""

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

    def expect_steady_steps(self, *groups: dist.ProcessGroup | None) -> None:
        """From here on, wait for a rank in collectives of the model no longer than STEADY_TIMEOUT.

        Args:
            groups: beside the group of all ranks; None is left out.
        """
        if dist.is_initialized():
            for group in (None, *filter(None, groups)):
                dist.set_timeout(STEADY_TIMEOUT, group)

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


def choose_device(device: str, local_rank: int = 0, *, nodes: Path = Path("/dev")) -> tuple[torch.device, str]:
    """The device that --device stands for, and a note where "auto" finds no GPU.

    Args:
        device: "auto", "cuda" or "cpu".
        nodes: where the operating system shows its devices.

    Raises ValueError with one line where a GPU is wanted, or is in the machine, and torch cannot use it: a run must not
    go to the CPU without anybody having said so.
    """
    if device == "cpu":
        return torch.device("cpu"), ""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local_rank >= count:
            raise ValueError(f"--device {device}: process {local_rank} of this node, which has {count} CUDA devices")
        return torch.device("cuda", local_rank), ""
    reason = _why_no_cuda()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if device == "cuda" or (not hidden and list(nodes.glob("nvidia[0-9]*"))):
        found = "torch sees no CUDA device here" if device == "cuda" else "there is a GPU that torch cannot use"
        raise ValueError(f"--device {device}: {found} ({reason}); repair that, or train on the CPU with --device cpu")
    return torch.device("cpu"), f"no GPU: {reason}"


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    return "no device is visible"


def device_name(device: torch.device) -> str:
    """What the device calls itself: a GPU with its memory, a CPU with its threads."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"CPU {name}, {torch.get_num_threads()} threads"


def describe_devices(world: World) -> str:
    """The devices of a run, as the run card says them."""
    many = f"{world.size} x " if world.size > 1 else ""
    note = f" ({world.device_note})" if world.device_note else ""
    return f"{many}{device_name(world.device)}{note}"


def set_defaults(traces: Path | None) -> None:
    """What torch should do on a GPU and does not by itself; what the environment says already stays.

    Expandable segments: packs differ in how many images and labels they hold, so sizes of requests change from step to
    step and fixed segments fall to pieces. Flight recorder: the last collectives of every rank, written to `traces`
    when one is not done in time.
    """
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ):
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
    if traces is not None:
        os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")
        os.environ.setdefault("TORCH_FR_DUMP_ON_TIMEOUT", "1")
        os.environ.setdefault("TORCH_FR_DUMP_TEMP_FILE", str(traces.absolute() / TRACE_PREFIX))


def hang_note(world: World, traces: Path) -> str:
    """What to do when a collective hangs; empty where none can."""
    if world.size == 1 or world.device.type != "cuda":
        return ""
    minutes = STEADY_TIMEOUT.total_seconds() / 60
    return (
        f"a collective that is not done within {minutes:.0f} minutes ends the run and leaves {traces / TRACE_PREFIX}*; "
        f"`torchfrtrace {traces} --prefix {TRACE_PREFIX}` says which process was missing"
    )


@contextlib.contextmanager
def join_world(device: str = "auto", *, process_groups: bool = False, traces: Path | None = None) -> Iterator[World]:
    """Join the run that the environment describes, and leave it at the end.

    Args:
        device: "auto" (CUDA if there is one), "cuda" or "cpu".
        process_groups: make process groups even for a single process (FSDP needs them).
        traces: folder for what NCCL's flight recorder has to say when a collective hangs.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    place, note = choose_device(device, local_rank)
    if place.type == "cuda":
        set_defaults(traces)
        torch.cuda.set_device(place)
    if size == 1 and not process_groups:
        yield World(0, 1, place, None, 1, note)
        return
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    # A run that is alone has no launcher, hence no rendezvous address: an in-memory store is enough.
    store = dist.HashStore() if size == 1 else None
    dist.init_process_group(backend, rank=rank, world_size=size, store=store, timeout=FIRST_TIMEOUT)
    try:
        yield World(rank, size, place, dist.new_group(backend="gloo"), local_size, note)
    finally:
        dist.destroy_process_group()
