"""Pictures that people would not find pleasing."""

from __future__ import annotations

import pyarrow as pa

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("aesthetic.score",)


class Options(Base):
    """How pleasing is pleasing enough."""

    min: float
    """Least score, of about 1 to 10. LAION-Aesthetics are the pictures from 4.5, 5, 6 and 6.5 on."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the score is under `min`."""
    return numbers(table, "aesthetic.score") < options.min
