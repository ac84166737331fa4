"""Pictures of text: screenshots, slides, posters."""

from __future__ import annotations

import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("text_area.share",)


class Options(Base):
    """How much is too much."""

    max: float = pydantic.Field(ge=0, le=1)
    """Greatest share of the picture that is text."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where it is over `max`."""
    return numbers(table, "text_area.share") > options.max
