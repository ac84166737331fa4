"""Texts that are too short or too long: captions, pages, conversations without their image marks."""

from __future__ import annotations

import pyarrow as pa

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

READS = ("text.chars", "text.words")


class Options(Base):
    """Bounds, each of which may be left out."""

    min_chars: int = 0
    max_chars: int | None = None
    min_words: int = 0
    """Words stand between blanks."""


def drops(table: pa.Table, options: Options) -> Mask:
    """Where a bound is passed."""
    chars, words = numbers(table, "text.chars"), numbers(table, "text.words")
    short = (chars < options.min_chars) | (words < options.min_words)
    return short if options.max_chars is None else short | (chars > options.max_chars)
