"""How likely a picture is not safe for work: an image classifier of transformers.

For instance Falconsai/nsfw_image_detection.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.models.classifiers import ClassifierOptions, ImageClassifier, classifier_fingerprint

VERSION = 1
FIELDS = {"score": pa.float32()}
NEEDS = ("picture",)


class Options(ClassifierOptions):
    """Which model, and which of its labels."""

    label: str = "nsfw"


fingerprint = classifier_fingerprint
Model = ImageClassifier
