"""How well words of the spec's choice fit a picture: zero-shot labels of an open_clip model.

[signals.zero_shot]
model = "ViT-L-14"
pretrained = "openai"
labels = { watermark = "a photo with a watermark", clean = "a photo without a watermark" }
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pydantic

from pipelines.models.clip import ClipOptions, clip_fingerprint, load_clip
from pipelines.row import Row
from pipelines.signals import Device, Values

VERSION = 1
FIELDS = {
    "cosine": pa.map_(pa.string(), pa.float32()),  # of picture and words, by label
    "probability": pa.map_(pa.string(), pa.float32()),  # softmax of the cosines at the model's temperature
}
NEEDS = ("picture",)
DECIMALS = 4

fingerprint = clip_fingerprint


class Options(ClipOptions):
    """Which model, and which labels."""

    labels: dict[str, str] = pydantic.Field(min_length=1)
    """Name of each label to the words that the model is given. The probabilities are of one label against the others:
    name at least two."""


def keys(options: Options) -> list[str]:
    """The labels."""
    return [*options.labels]


class Model:
    """An open_clip model with the embeddings of the labels."""

    def __init__(self, options: Options, device: Device) -> None:
        self._clip = load_clip(options, device)
        self._names = [*options.labels]
        self._texts = self._clip.texts([*options.labels.values()])

    def prepare(self, row: Row) -> Any:
        """The picture, float[3, S, S]."""
        return self._clip.pixels(row)

    def measure(self, batch: Sequence[Any]) -> list[Values]:
        """Cosine and probability of each label, to four decimals."""
        cosines = self._clip.images(batch) @ self._texts.T
        probabilities = (self._clip.temperature * cosines).softmax(dim=-1)
        found = zip(cosines.tolist(), probabilities.tolist(), strict=True)
        return [{"cosine": self._named(one), "probability": self._named(other)} for one, other in found]

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        return {name: round(value, DECIMALS) for name, value in zip(self._names, values, strict=True)}
