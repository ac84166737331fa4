"""Where models run, and what keeps their results the same wherever they do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A torch device with the batch size and decoding threads that keep it busy."""

    name: str
    batch: int
    """Images per forward pass."""
    threads: int
    """Threads that decode ahead of it."""


def pick_device(wanted: str, *, cpu_batch: int, cuda_batch: int) -> Device:
    """The device for `wanted` (auto, cpu or cuda). Raises ValueError if cuda is asked for and absent."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {wanted!r}: choose auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: no CUDA device is visible; use device auto or cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return Device("cpu", cpu_batch, 1)
    return Device("cuda", cuda_batch, max(1, min(8, (os.cpu_count() or 1) - 1)))


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch's CPU kernels on one thread, so that sums are taken in one order for any number of workers.

    Used around each batch and not once per process: the setting belongs to the thread that makes it.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
