"""Captions that do not fit their picture."""

from __future__ import annotations

import pyarrow as pa

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

REASON = "low_score"
READS = ("caption_score.cosine",)


class Options(Base):
    """How well is well enough."""

    min: float
    """Least cosine of the open_clip embeddings of picture and caption."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the score is under `min`."""
    return numbers(table, "caption_score.cosine") < options.min
