"""The language of a row's text."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Options, Values

VERSION = 1
FIELDS = {
    "code": pa.string(),  # ISO 639-1
    "score": pa.float32(),  # probability, rounded to four decimals
}
NEEDS = ("text",)
CHARS = 2000
"""A long text is judged by its beginning."""


def fingerprint(options: Options) -> dict[str, str]:
    """The classifier comes with its package."""
    return {"py3langid": version("py3langid")}


def measure(row: Row) -> Values:
    """Ask py3langid."""
    code, score = _identifier().classify(row.text[:CHARS])
    return {"code": code, "score": round(float(score), 4)}


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
