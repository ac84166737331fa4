"""The columns of a source that its spec keeps (`columns`), such as scores it was published with."""

from __future__ import annotations

import json

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {
    "number": pa.map_(pa.string(), pa.float64()),  # numbers, and 1 and 0 for true and false
    "text": pa.map_(pa.string(), pa.string()),  # all others: texts as they are, lists and objects as JSON
}
NEEDS = ("columns",)
EXACT = 2**53
"""Integers beyond this are kept as text, for a float64 would round them."""


def measure(row: Row) -> Values:
    """Each value by its column's name; a null is left out."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    for name, written in (row.columns or {}).items():
        value = json.loads(written)
        if isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT):
            numbers[name] = float(value)
        elif value is not None:
            texts[name] = value if isinstance(value, str) else written
    return {"number": numbers, "text": texts}
