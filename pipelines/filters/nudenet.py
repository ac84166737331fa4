"""Pictures of nudity, by body part."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

EXPOSED = ("ANUS_EXPOSED", "BUTTOCKS_EXPOSED", "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED",
           "MALE_GENITALIA_EXPOSED")  # fmt: skip


class Options(Base):
    """How sure is too sure, and of what."""

    max: float = pydantic.Field(ge=0, le=1)
    """Greatest score of any of `classes`."""
    classes: list[str] = pydantic.Field(default=[*EXPOSED], min_length=1)
    """Of the signal's classes: exposed breasts of women, buttocks, anus and genitals if left out."""


def reads(options: Options) -> list[str]:
    """The scores of the classes."""
    return [f"nudenet.score.{name}" for name in options.classes]


def drops(table: pa.Table, options: Options) -> Mask:
    """Where one is over `max`."""
    return np.any([numbers(table, field) > options.max for field in reads(options)], axis=0)
