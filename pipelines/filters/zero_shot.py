"""Pictures that fit a label too well, or not well enough."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base


class Options(Base):
    """Bounds of the probability by label, `max = { watermark = 0.5 }`; of the cosines, see the filter `where`."""

    max: dict[str, float] = pydantic.Field(default_factory=dict)
    min: dict[str, float] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _any(self) -> Options:
        if not (self.max or self.min):
            raise ValueError("set min, max or both")
        return self


def reads(options: Options) -> list[str]:
    """The probabilities of the labels."""
    return [f"zero_shot.probability.{label}" for label in {**options.max, **options.min}]


def drops(table: pa.Table, options: Options) -> Mask:
    """Where a bound is passed."""
    dropped = np.zeros(table.num_rows, dtype=np.bool_)
    for label, most in options.max.items():
        dropped |= numbers(table, f"zero_shot.probability.{label}") > most
    for label, least in options.min.items():
        dropped |= numbers(table, f"zero_shot.probability.{label}") < least
    return dropped
