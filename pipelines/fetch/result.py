"""What every download engine answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.reasons import Outcome

FIRST_WAIT_S = 0.5
"""Least time between two attempts at an address."""
LONGEST_WAIT_S = 30.0
"""Waiting before the next attempt doubles from FIRST_WAIT_S to this."""
LONGEST_RETRY_AFTER_S = 60.0
"""A server that asks for more is left alone: its rows stay transient, for `--retry-transient`."""
OVER_BUDGET = "the time for this shard was over"
"""Detail of rows that were not asked for because of `operations.shard_seconds`."""


@dataclass(frozen=True)
class Fetched:
    """What came of one address."""

    url: str
    outcome: Outcome
    data: bytes | None = None
    """The original bytes; set only if `outcome` is OK."""
    final_url: str | None = None
    """Where the last answer came from, after redirects."""
    http_status: int | None = None
    """Of the last answer."""
    detail: str | None = None
    """What reserved an opted-out image, or why a host was given up; for people, short and printable."""


class Fetcher(Protocol):
    """A download engine."""

    def fetch_many(self, urls: Sequence[str]) -> Iterator[Fetched]:
        """Fetch all, in any order, and answer in that of `urls`. Never raises for anything an address or server does.

        However many there are, only so much of them is in memory that the caller need not care.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...


class FetchProblem(Exception):
    """Why a request gave no image."""

    def __init__(
        self,
        outcome: Outcome,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome
        self.status = status
        self.retry_after = retry_after
        """Seconds the server asks us to wait."""
        self.detail = detail
        """As in Fetched."""


def outcome_of_status(status: int) -> Outcome:
    """What an HTTP status other than success means for a row."""
    if status in (404, 410):
        return Outcome.HTTP_GONE
    if status == 429:
        return Outcome.HTTP_RATE_LIMITED
    if status >= 500 or status in (408, 425):
        return Outcome.HTTP_SERVER_ERROR
    return Outcome.HTTP_REFUSED
