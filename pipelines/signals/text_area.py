"""How much of a picture is text: the boxes of RapidOCR's text detector, whose weights come with it (extra `ocr`).

Text is found, not read.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from pipelines.models.fingerprints import package_version
from pipelines.row import Row
from pipelines.signals import Options, Values

VERSION = 1
FIELDS = {
    "share": pa.float32(),  # of the picture's area that lies in a box, 0 to 1
    "lines": pa.int16(),  # boxes, about one for a line of text
}
NEEDS = ("picture",)
DECIMALS = 4
AT_LEAST = 736
"""Short side of the picture the detector is given, pixels ..."""
LONG_SIDE = 960
"""... and long side that it computes at, at most."""


def fingerprint(options: Options) -> dict[str, str]:
    """The package's version. Raises ValueError if it is not installed."""
    return package_version("rapidocr", "ocr")


def measure(row: Row) -> Values:
    """Of the first image. Boxes that overlap count once."""
    picture = row.picture(AT_LEAST)
    boxes = _find(np.asarray(picture)[:, :, ::-1])  # blue first, as OpenCV reads files
    covered = Image.new("1", picture.size)
    for box in boxes:
        ImageDraw.Draw(covered).polygon([(float(x), float(y)) for x, y in box], fill=1)
    return {"share": round(float(np.asarray(covered).mean()), DECIMALS), "lines": len(boxes)}


def _find(pixels: Any) -> list[Any]:
    with _lock:  # the engine keeps state from call to call
        found = _engine()(pixels, use_det=True, use_cls=False, use_rec=False)
    return [] if found.boxes is None else [*found.boxes]


_lock = threading.Lock()


@functools.cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.width_height_ratio": -1,  # else a picture that is very long is one line of text without a look
            "Det.limit_type": "max",  # never enlarged, so that a long strip does not cost many pictures
            "Det.limit_side_len": LONG_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
