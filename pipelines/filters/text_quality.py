"""Texts that are no prose, or repeat themselves: the rules of Gopher and C4 with their published thresholds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base

BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "gopher_quality": {
        "words": (50, 100_000), "mean_word_length": (3, 10), "symbols_per_word": (0, 0.1), "bullet_lines": (0, 0.9),
        "ellipsis_lines": (0, 0.3), "alphabetic_words": (0.8, 1), "stop_words": (2, 8),
    },
    "gopher_repetition": {
        "duplicate_lines": (0, 0.3), "duplicate_paragraphs": (0, 0.3), "duplicate_line_chars": (0, 0.2),
        "duplicate_paragraph_chars": (0, 0.2), "top_2gram_chars": (0, 0.2), "top_3gram_chars": (0, 0.18),
        "top_4gram_chars": (0, 0.16), "duplicate_5gram_chars": (0, 0.15), "duplicate_6gram_chars": (0, 0.14),
        "duplicate_7gram_chars": (0, 0.13), "duplicate_8gram_chars": (0, 0.12), "duplicate_9gram_chars": (0, 0.11),
        "duplicate_10gram_chars": (0, 0.1),
    },
    "c4": {"c4_sentences": (3, np.inf), "c4_placeholder": (0, 0)},
}  # fmt: skip
"""Least and greatest value of each field, by set of rules: Gopher table A1, C4 section 2.2."""


class Options(Base):
    """Which rules."""

    rules: list[Literal["gopher_quality", "gopher_repetition", "c4"]] = pydantic.Field(min_length=1)
    """All of which a text has to pass."""


def reads(options: Options) -> list[str]:
    """The fields of the rules."""
    return [f"text_quality.{field}" for rules in options.rules for field in BOUNDS[rules]]


def bounds(options: Options) -> dict[str, tuple[float, float]]:
    """Those of the rules."""
    return {f"text_quality.{field}": limits for rules in options.rules for field, limits in BOUNDS[rules].items()}


def drops(table: pa.Table, options: Options) -> Mask:
    """Where a rule fails."""
    dropped = np.zeros(table.num_rows, dtype=np.bool_)
    for rules in options.rules:
        for field, (least, most) in BOUNDS[rules].items():
            values = numbers(table, f"text_quality.{field}")
            # Bounds in the type of the values, so that 0.3 is not over 0.3.
            dropped |= (values < values.dtype.type(least)) | (values > values.dtype.type(most))
    return dropped
