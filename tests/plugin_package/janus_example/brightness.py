"""How bright a picture is, from 0 (black) to 255 (white)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {"mean": pa.float32()}
NEEDS = ("picture",)


def measure(row: Row) -> Values:
    """Mean of the grey picture, to one decimal."""
    grey = np.asarray(row.picture(at_least=64, mode="L"))
    return {"mean": round(float(grey.mean()), 1)}
