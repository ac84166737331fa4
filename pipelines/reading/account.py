"""The account of a source: what became of every row that was met in it (design D2)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from pipelines.reading.errors import RowError, SourceError
from schemas.reasons import UNREADABLE, Outcome, Skip
from schemas.sample import Sample
from schemas.spec import Source

EARLY_ROWS = 1000
"""After so many rows the share of unreadable ones is judged for the first time, and after as many again."""
FEW_ROWS = 20
"""A source of fewer rows is judged as if good ones made up this number: one bad row of three proves nothing."""
EXAMPLES = 3
"""Messages kept per reason."""


class Skipped(NamedTuple):
    """Rows that a source met and did not take."""

    reason: Skip
    rows: int = 1
    where: str = ""
    """One of them, for messages."""


class Failed(NamedTuple):
    """A row that could not be read."""

    key: str
    error: RowError


@dataclass
class Account:
    """Counts of one reading of a source. Rows met = taken + failed by outcome + skipped by reason."""

    source: Source
    taken: int = 0
    failed: Counter[Outcome] = field(default_factory=Counter)
    skipped: Counter[Skip] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Outcome or reason to the first few messages."""

    @property
    def rows(self) -> int:
        """Rows that are in the corpus, readable or not."""
        return self.taken + self.failed.total()

    def take(self, sample: Sample) -> None:
        """Count a row."""
        if sample.outcome == Outcome.OK:
            self.taken += 1
        else:
            self._failed(sample.outcome, sample.key)

    def fail(self, failed: Failed) -> None:
        """Count a row that could not be read. Raises SourceError if these have become too many."""
        self._failed(failed.error.outcome, str(failed.error))

    def _failed(self, outcome: Outcome, message: str) -> None:
        self.failed[outcome] += 1
        self._example(outcome, message)
        if self.rows % EARLY_ROWS == 0:
            self.judge()

    def skip(self, skipped: Skipped) -> None:
        """Count rows that were not taken."""
        self.skipped[skipped.reason] += skipped.rows
        if skipped.where:
            self._example(skipped.reason, skipped.where)

    def take_down(self) -> None:
        """Count a row that was taken as skipped: a takedown list names it, so not even its place is kept."""
        self.taken -= 1
        self.skip(Skipped(Skip.TAKEN_DOWN))

    def _example(self, reason: str, message: str) -> None:
        found = self.examples.setdefault(str(reason), [])
        if len(found) < EXAMPLES:
            found.append(message)

    def judge(self) -> None:
        """Raise SourceError if more than `max_unreadable` of the rows could not be read."""
        unreadable = {outcome: count for outcome, count in self.failed.items() if outcome in UNREADABLE}
        count = sum(unreadable.values())
        if count > self.source.max_unreadable * max(self.rows, FEW_ROWS):
            first = self.examples[str(max(unreadable, key=lambda outcome: unreadable[outcome]))][0]
            kinds = ", ".join(f"{outcome} {number}" for outcome, number in sorted(unreadable.items()))
            raise SourceError(
                f"source {self.source.name}: {count} of {self.rows} rows cannot be read ({kinds}), more than "
                f"max_unreadable = {self.source.max_unreadable:g}; {first}"
            )

    def close(self) -> None:
        """The source is at its end. Raises SourceError if too much of it was unreadable, or there was nothing."""
        self.judge()
        if not self.rows and not self.source.allow_empty and self.source.limit != 0:
            skips = ", ".join(f"{reason} {count:,}" for reason, count in sorted(self.skipped.items()))
            first = next((found[0] for found in self.examples.values()), "")
            seen = (
                f"every row was skipped ({skips}){f', {first} among them' if first else ''}" if skips else "it is empty"
            )
            raise SourceError(
                f"source {self.source.name}: {self.source.path}: no row: {seen}; allow_empty = true allows it"
            )
