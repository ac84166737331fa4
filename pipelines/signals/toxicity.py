"""How likely a row's text is toxic: a text classifier of transformers.

For instance unitary/toxic-bert, unitary/multilingual-toxic-xlm-roberta.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.models.classifiers import ClassifierOptions, TextClassifier, classifier_fingerprint

VERSION = 1
FIELDS = {"score": pa.float32()}
NEEDS = ("text",)


class Options(ClassifierOptions):
    """Which model, and which of its labels."""

    label: str = "toxic"


fingerprint = classifier_fingerprint
Model = TextClassifier
