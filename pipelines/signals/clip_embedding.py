"""The open_clip embedding of a picture, of unit length, as float16: for near duplicates, search and clustering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.models.clip import ClipOptions, clip_fingerprint, embedding_size, load_clip
from pipelines.row import Row
from pipelines.signals import Device, Values

VERSION = 1
FIELDS = {"vector": pa.list_(pa.float16())}
"""Of the length that `fields` says."""
NEEDS = ("picture",)

Options = ClipOptions
fingerprint = clip_fingerprint


def fields(options: Options) -> Mapping[str, pa.DataType]:
    """A list of the model's embedding size."""
    return {"vector": pa.list_(pa.float16(), embedding_size(options))}


class Model:
    """An open_clip model, over pictures."""

    def __init__(self, options: Options, device: Device) -> None:
        self._clip = load_clip(options, device)

    def prepare(self, row: Row) -> Any:
        """The picture, float[3, S, S]."""
        return self._clip.pixels(row)

    def measure(self, batch: Sequence[Any]) -> list[Values]:
        """One float16[D] each."""
        return [{"vector": vector} for vector in self._clip.images(batch).cpu().numpy().astype(np.float16)]
