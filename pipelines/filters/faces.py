"""Pictures of people: by the number of faces, or the size of the largest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("faces.count", "faces.largest")


class Options(Base):
    """Bounds, one of which may be left out."""

    max_count: int | None = pydantic.Field(default=None, ge=0)
    """Most faces."""
    max_largest: float | None = pydantic.Field(default=None, ge=0, le=1)
    """Greatest share of the picture that a face takes."""

    @pydantic.model_validator(mode="after")
    def _any(self) -> Options:
        if self.max_count is None and self.max_largest is None:
            raise ValueError("set max_count, max_largest or both")
        return self


def drops(table: pa.Table, options: Options) -> Mask:
    """Where a bound is passed."""
    dropped = np.zeros(table.num_rows, dtype=np.bool_)
    if options.max_count is not None:
        dropped |= numbers(table, "faces.count") > options.max_count
    if options.max_largest is not None:
        dropped |= numbers(table, "faces.largest") > options.max_largest
    return dropped
