"""What NudeNet's detector finds in a picture, body parts and faces. Its weights come with it (extra `nudenet`).

It runs in ONNX Runtime on the CPU, on one thread for each that decodes.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.row import Row

AT_LEAST = 640
"""Short side of the picture it is given, pixels: twice the 320 that it computes at."""

CLASSES = (
    "ANUS_COVERED", "ANUS_EXPOSED", "ARMPITS_COVERED", "ARMPITS_EXPOSED", "BELLY_COVERED", "BELLY_EXPOSED",
    "BUTTOCKS_COVERED", "BUTTOCKS_EXPOSED", "FACE_FEMALE", "FACE_MALE", "FEET_COVERED", "FEET_EXPOSED",
    "FEMALE_BREAST_COVERED", "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_COVERED", "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED", "MALE_GENITALIA_EXPOSED",
)  # fmt: skip
"""All that it tells apart."""


@dataclass(frozen=True)
class Found:
    """One thing that it found."""

    kind: str
    """One of CLASSES."""
    score: float
    share: float
    """Of the picture's area that its box takes."""


def detect(row: Row) -> list[Found]:
    """In the first image of a row, once for all signals that ask."""
    found = row.shared.get(detect)
    if found is None:
        picture = row.picture(AT_LEAST)
        area = picture.width * picture.height
        boxes = _detector().detect(np.asarray(picture)[:, :, ::-1])  # blue first, as OpenCV reads files
        found = [Found(one["class"], one["score"], one["box"][2] * one["box"][3] / area) for one in boxes]
        row.shared[detect] = found
    return found


def _detector() -> Any:
    with _lock:
        return _load()


_lock = threading.Lock()


@functools.cache
def _load() -> Any:
    import onnxruntime
    from nudenet import NudeDetector

    detector = NudeDetector()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = detector.onnx_session._model_path
    detector.onnx_session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return detector
