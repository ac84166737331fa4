"""Models of transformers that judge: where one lies, and how results name it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from schemas.digest import digest, file_sha256


@cache
def judge_name(weights: str, kind: str | None = None) -> str:
    """A model as results name it: the last part of its folder or hub id, and a digest of its weights.

    A run asks several times; gigabytes are hashed at the first.

    Args:
        weights: folder or hub id.
        kind: its `model_type`, where only one will do.

    Raises ValueError or FileNotFoundError with one line if it cannot be read.
    """
    folder = model_folder(weights)
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise ValueError(f"{folder}: no readable config.json there; expected a model folder of transformers") from None
    if kind is not None and found != kind:
        raise ValueError(f"{folder}: a model of type {found!r}; expected {kind!r}")
    if not (files := sorted(folder.glob("model*.safetensors"))):
        raise FileNotFoundError(f"{folder}: no model.safetensors there: expected the model's weights")
    return f"{Path(weights).name} {digest([file_sha256(file) for file in files])[:12]}"


def model_folder(weights: str) -> Path:
    """The folder of a model, fetched from the hub where it is an id."""
    from janus.model.checkpoints.hub import local_folder

    return local_folder(weights, weights=True)
