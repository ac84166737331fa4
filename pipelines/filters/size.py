"""Pictures that are too small."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

REASON = "too_small"
READS = ("image.width", "image.height")


class Options(Base):
    """How small is too small."""

    min_side: int
    """Least length of the short side, pixels."""


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Both sides are at least that long."""
    return dict.fromkeys(READS, (options.min_side, np.inf))


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the short side is under `min_side`."""
    return np.minimum(numbers(table, "image.width"), numbers(table, "image.height")) < options.min_side
