"""What can go wrong in reading a source: with the source, with one row, or with a row that is not wanted."""

from __future__ import annotations

from schemas.printable import printable
from schemas.reasons import Outcome, Skip


class SourceError(ValueError):
    """A source cannot be read as described. One line: file, row, field, what was expected, what to do.

    Control characters in it are escaped: file, member and field names come from whoever made the data.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RowError(SourceError):
    """One row cannot be read. Inside a row it makes that row a failed one; elsewhere it stops the source."""

    def __init__(self, message: str, outcome: Outcome = Outcome.BAD_ROW) -> None:
        super().__init__(message)
        self.outcome = outcome


class SkipRow(Exception):
    """A row that is in order but not wanted here."""

    def __init__(self, reason: Skip) -> None:
        super().__init__(reason.value)
        self.reason = reason
