"""Pictures that are too dark."""

from __future__ import annotations

import pyarrow as pa

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("brightness.mean",)


class Options(Base):
    """Options of `filters = { too_dark = { ... } }`."""

    min: float
    """Least brightness, 0 to 255."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the picture is darker. A row without one is kept: comparisons with a missing value are false."""
    return numbers(table, "brightness.mean") < options.min
