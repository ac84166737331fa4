"""Length of all text of a row (of a caption, a page, a conversation) without its image marks."""

from __future__ import annotations

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {"chars": pa.int32(), "words": pa.int32()}
NEEDS = ()


def measure(row: Row) -> Values:
    """Characters, with blanks collapsed, and words between blanks."""
    return {"chars": len(row.text), "words": len(row.text.split())}
