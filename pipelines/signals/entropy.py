"""How much a picture varies in brightness: Shannon entropy of its grey histogram, 0 (one colour) to 8 bits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {"bits": pa.float32()}
NEEDS = ("picture",)

SIDE = 256
"""The picture is averaged down to no less than this, pixels of the short side: noise of single pixels counts less."""


def measure(row: Row) -> Values:
    """Of the first image, to four decimals."""
    counts = np.array(row.picture(SIDE, "L").histogram(), dtype=np.float64)
    shares = counts[counts > 0] / counts.sum()
    return {"bits": round(float(np.sum(shares * np.log2(1 / shares))), 4)}
