"""How sharp a picture is: the variance of its Laplacian, low where edges are soft (Pech-Pacheco et al., ICPR 2000).

At one size for all, so that values of pictures of different sizes compare. A picture smaller than that is enlarged and
comes out soft: it has no more detail to show.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {"variance": pa.float32()}
NEEDS = ("picture",)

SIDE = 256
"""Both sides of the picture that is measured, pixels."""


def measure(row: Row) -> Values:
    """Of the first image, grey (0 to 255), to two decimals."""
    grey = row.picture(SIDE, "L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(grey, dtype=np.int32)
    # The four neighbours of a pixel less four times itself, where it has four.
    around = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:]
    return {"variance": round(float(np.var(around - 4 * pixels[1:-1, 1:-1])), 2)}
