"""Pictures that are blurred."""

from __future__ import annotations

import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("sharpness.variance",)


class Options(Base):
    """How sharp is sharp enough."""

    min: float = pydantic.Field(ge=0)
    """Least variance of the Laplacian."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the variance is under `min`."""
    return numbers(table, "sharpness.variance") < options.min
