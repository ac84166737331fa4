"""Pictures that show next to nothing (a flat colour), or little but noise."""

from __future__ import annotations

import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("entropy.bits",)


class Options(Base):
    """Bounds, one of which may be left out."""

    min: float | None = pydantic.Field(default=None, ge=0, le=8)
    """Least entropy, bits."""
    max: float | None = pydantic.Field(default=None, ge=0, le=8)
    """Greatest entropy, bits."""

    @pydantic.model_validator(mode="after")
    def _bounds(self) -> Options:
        if self.min is None and self.max is None:
            raise ValueError("set min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}: every row would be dropped")
        return self


def drops(table: pa.Table, options: Options) -> Mask:
    """Where a bound is passed."""
    bits = numbers(table, "entropy.bits")
    dropped = bits < (0 if options.min is None else options.min)
    return dropped if options.max is None else dropped | (bits > options.max)
