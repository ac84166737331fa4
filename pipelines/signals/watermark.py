"""How likely a picture bears a watermark: an image classifier of transformers.

Any model that has a label for it.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.models.classifiers import ClassifierOptions, ImageClassifier, classifier_fingerprint

VERSION = 1
FIELDS = {"score": pa.float32()}
NEEDS = ("picture",)


class Options(ClassifierOptions):
    """Which model, and which of its labels."""

    label: str = "watermark"


fingerprint = classifier_fingerprint
Model = ImageClassifier
