"""Where models run, and what keeps their results the same wherever they do."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from schemas.spec import Precision


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


class _FullFloat32:
    """Switches TF32 off while anyone is inside.

    On a GPU torch rounds the factors of a float32 convolution to TF32, 10 bits of mantissa, unless told not to. The
    setting belongs to the process and engines may run several threads in one, so the last one out restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[str] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [operation.fp32_precision for operation in _float32_operations()]
                for operation in _float32_operations():
                    operation.fp32_precision = "ieee"
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for operation, before in zip(_float32_operations(), self._before, strict=True):
                    operation.fp32_precision = before


def _float32_operations() -> tuple[Any, ...]:
    import torch

    # One by one: the older switches (`allow_tf32`) refuse to be mixed with these.
    return torch.backends.cudnn.conv, torch.backends.cuda.matmul


_full_float32 = _FullFloat32()


@contextlib.contextmanager
def reproducible(precision: Precision, device: str) -> Iterator[None]:
    """Inference whose results depend as little as possible on where it runs: whole float32, sums in one order.

    A GPU computes float32 without TF32; with precision bf16, matrix products and convolutions are autocast. A CPU runs
    torch's kernels on one thread, so that sums are taken in the same order for any number of workers. Used around each
    batch and not once per process: the number of threads belongs to the thread that sets it.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")
        with _full_float32, torch.inference_mode(), autocast:
            yield
    finally:
        torch.set_num_threads(before)
