"""Caps on what a source may hold. What is over one of the first five is a failed row, `row_too_large`."""

from __future__ import annotations

from typing import Any

MAX_ROW = 16 << 20
"""Bytes of one line of JSON lines or CSV, one element of a JSON list, or the text of one Parquet row."""
MAX_CELLS = 512 << 20
"""Bytes of one Parquet row, pictures included; a picture has a cap of its own (`limits.max_bytes` of the spec)."""
MAX_TEXT = 1 << 20
"""Characters of the text of one sample, and bytes of a caption file. About 250,000 tokens."""
MAX_VALUES = 1_000_000
"""Values in one JSON row."""
MAX_DEPTH = 64
"""Lists and objects inside each other in one JSON row."""
MAX_FIELDS = 10_000
"""Columns of a table."""
MAX_RATIO = 250
"""Bytes that one byte of a compressed file may become, beyond FREE_EXPANSION. Text compresses 3 to 30 times."""
FREE_EXPANSION = 256 << 20
"""Bytes that any compressed file may become."""


def json_problem(text: str, value: Any) -> str | None:
    """What makes a parsed row too large, from its text first, for most rows are told fine by counting brackets."""
    if len(text) > MAX_ROW:
        return f"more than {MAX_ROW:,} characters"
    brackets = text.count("[") + text.count("{")
    if text.count(",") + brackets > MAX_VALUES:
        return f"more than {MAX_VALUES:,} values"
    if brackets > MAX_DEPTH and depth(value) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} lists and objects inside each other"
    return None


def depth(value: Any) -> int:
    """Levels of lists and objects in `value`; without recursion."""
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        levels += 1
        layer = [item for inner in layer for item in (inner.values() if isinstance(inner, dict) else inner)]
    return levels
