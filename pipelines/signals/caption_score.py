"""How well a caption fits its image: the cosine of their open_clip embeddings (pipelines/models/clip.py).

Scores are rounded to four decimals, which hides the last bits of float sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.models.clip import ClipOptions, clip_fingerprint, load_clip
from pipelines.row import Row
from pipelines.signals import Device, Values

VERSION = 1
FIELDS = {"cosine": pa.float32()}
NEEDS = ("picture", "caption")
DECIMALS = 4

Options = ClipOptions
fingerprint = clip_fingerprint


class Model:
    """An open_clip model, over pictures and captions."""

    def __init__(self, options: Options, device: Device) -> None:
        self._clip = load_clip(options, device)

    def prepare(self, row: Row) -> tuple[Any, str]:
        """The picture, float[3, S, S], and the caption."""
        return self._clip.pixels(row), row.caption or ""

    def measure(self, batch: Sequence[tuple[Any, str]]) -> list[Values]:
        """Cosine per pair, rounded to four decimals."""
        images = self._clip.images([pixels for pixels, _ in batch])
        cosines = (images * self._clip.texts([caption for _, caption in batch])).sum(dim=-1)
        return [{"cosine": round(value, DECIMALS)} for value in cosines.tolist()]
