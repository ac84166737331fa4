"""Pictures that are too long and narrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("image.width", "image.height")


class Options(Base):
    """How narrow is too narrow."""

    max: float = pydantic.Field(ge=1)
    """Greatest long side / short side."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the long side is more than `max` times the short one."""
    width, height = numbers(table, "image.width"), numbers(table, "image.height")
    return np.maximum(width, height) > options.max * np.minimum(width, height)
