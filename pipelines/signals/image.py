"""What the images of a row are: whether all of them decode, what the first one's file says of itself, their content.

The one place where a row that was downloaded turns into a failed one (`bad_image`): decisions take its `outcome` from
here, and no other signal has a say in it. Measured for every row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

from pipelines.row import ImageProblem, Row
from pipelines.signals import Values
from schemas.reasons import Outcome

VERSION = 1
FIELDS = {
    "outcome": pa.string(),  # of the row: that of its download, or of decoding its images
    "num_images": pa.int16(),
    # Null for rows without images and failed ones. Of the first image:
    "width": pa.int32(),  # upright, i.e. after EXIF orientation
    "height": pa.int32(),
    "format": pa.string(),  # Pillow's name: JPEG, PNG, WEBP ...
    "mode": pa.string(),
    "orientation": pa.int8(),  # EXIF tag, 1 if absent
    "frames": pa.int32(),
    # Of all images:
    "num_bytes": pa.int64(),
    "sha256": pa.binary(32),  # of the one image, or of the hashes of several
}
NEEDS = ("images",)


def measure(row: Row) -> Values:
    """Decode every image."""
    values = {"outcome": row.outcome, "num_images": len(row.images)}
    if row.outcome != Outcome.OK or not row.images:
        return values
    try:
        for index in range(len(row.images)):
            row.decode(index)
        facts = row.header
    except ImageProblem as problem:
        return {**values, "outcome": problem.outcome.value}
    return {
        **values,
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "mode": facts.mode,
        "orientation": facts.orientation,
        "frames": facts.frames,
        "num_bytes": sum(len(image["bytes"]) for image in row.images),
        "sha256": content_sha256([image["sha256"] for image in row.images]),
    }


def content_sha256(images: Sequence[bytes]) -> bytes:
    """Identity of a row's images: the hash of the one image, or of the hashes of several in their order."""
    return images[0] if len(images) == 1 else hashlib.sha256(b"".join(images)).digest()
