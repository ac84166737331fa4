"""Texts in other languages than those wanted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("language.code", "language.score")


class Options(Base):
    """Which languages."""

    keep: list[str] = pydantic.Field(min_length=1)
    """ISO 639-1 codes."""
    min_score: float = 0.0
    """A text whose language is less certain than this is not dropped."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the language is not one of `keep`."""
    wanted = {*options.keep, None}
    other = np.array([code not in wanted for code in table.column("language.code").to_pylist()], dtype=bool)
    return other & (numbers(table, "language.score") >= options.min_score)
