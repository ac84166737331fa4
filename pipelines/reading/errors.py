"""The one error of this room."""

from __future__ import annotations


class SourceError(ValueError):
    """A source cannot be read as described. One line: file, row, field, what was expected, what to do."""
