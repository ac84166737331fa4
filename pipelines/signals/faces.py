"""How many faces a picture shows, and how large: those that NudeNet's detector finds (extra `nudenet`).

Of the kept packages that find faces it is the one that has its weights in the wheel and asks for nothing but ONNX
Runtime and OpenCV. Beside the signal `nudenet` it costs nothing: both look once.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.models.fingerprints import package_version
from pipelines.models.nude import detect
from pipelines.row import Row
from pipelines.signals import Options, Values

VERSION = 1
FIELDS = {
    "count": pa.int16(),
    "largest": pa.float32(),  # share of the picture that the box of the largest takes, 0 without faces
}
NEEDS = ("picture",)
DECIMALS = 3


def fingerprint(options: Options) -> dict[str, str]:
    """The package's version. Raises ValueError if it is not installed."""
    return package_version("nudenet", "nudenet")


def measure(row: Row) -> Values:
    """Of the first image."""
    shares = [found.share for found in detect(row) if found.kind.startswith("FACE_")]
    return {"count": len(shares), "largest": round(max(shares, default=0.0), DECIMALS)}
