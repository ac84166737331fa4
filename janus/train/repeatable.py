"""The same bits from the same step on a GPU, where some fast kernels add in whatever order their threads come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Inside, if `wanted`, torch takes only algorithms that add in a fixed order, and raises where it has none.

    Enter before the first use of CUDA: cuBLAS reads its part when it starts.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
