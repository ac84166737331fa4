"""Nudity in a picture, by body part: NudeNet's detector, whose weights come with its package (extra `nudenet`)."""

from __future__ import annotations

import pyarrow as pa

from pipelines.models.fingerprints import package_version
from pipelines.models.nude import CLASSES, detect
from pipelines.row import Row
from pipelines.signals import Options, Values

VERSION = 1
FIELDS = {"score": pa.map_(pa.string(), pa.float32())}  # the highest of each class, 0 of those not found
NEEDS = ("picture",)
DECIMALS = 3


def fingerprint(options: Options) -> dict[str, str]:
    """The package's version. Raises ValueError if it is not installed."""
    return package_version("nudenet", "nudenet")


def keys(options: Options) -> tuple[str, ...]:
    """The classes, `FEMALE_BREAST_EXPOSED` for instance."""
    return CLASSES


def measure(row: Row) -> Values:
    """The scores, to three decimals."""
    scores = dict.fromkeys(CLASSES, 0.0)
    for found in detect(row):
        scores[found.kind] = max(scores[found.kind], round(found.score, DECIMALS))
    return {"score": scores}
