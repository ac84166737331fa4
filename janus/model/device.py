"""Where inference runs, and in which precision."""

from __future__ import annotations

import torch


def placement(device: str) -> tuple[torch.device, torch.dtype]:
    """The device and its inference type: bfloat16 on a GPU, float32 elsewhere.

    Args:
        device: "auto" for a GPU if there is one, else a torch device name.

    Raises:
        ValueError: no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device!r}: expected auto, cpu, cuda or cuda:N") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: this machine has no CUDA device; use cpu")
    return place, torch.bfloat16 if place.type == "cuda" else torch.float32
