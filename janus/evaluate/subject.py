"""Loading the model under evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from janus.evaluate.chosen import Subject
from schemas.digest import digest

if TYPE_CHECKING:
    import torch


def load_subject(model: str, device: str | torch.device, dtype: str = "auto") -> tuple[Subject, dict[str, Any]]:
    """A model on its device, and what its configuration says under `evaluation` (`janus.evaluate.prompts`).

    Args:
        model: Janus folder or hub id.
        device: "auto", "cpu", "cuda" or "cuda:N".
        dtype: of the weights: "bfloat16" or "float32"; "auto" is bfloat16 on a GPU and float32 elsewhere.

    Raises ValueError or FileNotFoundError with one line: no such model, device or type.
    """
    import torch

    from janus.model.checkpoints.hub import local_folder
    from janus.model.checkpoints.model_folder import load_janus
    from janus.model.checkpoints.sums import read_sums
    from janus.model.device import placement
    from janus.train.record import model_digest

    if dtype not in ("auto", "bfloat16", "float32"):
        raise ValueError(f"dtype {dtype!r}: expected auto, bfloat16 or float32")
    folder = local_folder(model, weights=True)
    place, usual = placement(str(device))
    weights = usual if dtype == "auto" else getattr(torch, dtype)
    loaded, processor = load_janus(folder, dtype=weights, device=place)
    fingerprint = digest([model_digest(folder), processor.tokenizer_identity(), processor.image_identity()])
    subject = Subject(loaded, processor, fingerprint, has_sums=read_sums(folder).of is not None)
    return subject, getattr(loaded.config, "evaluation", {})
