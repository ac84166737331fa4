"""Hosts that do not answer are given up, so that one of them cannot hold up a worker for hours.

Counted are time-outs and connections that fail, one after the other: what fails side by side is one failure, and any
answer at all starts the count anew. After the second the host rests for FIRST_WAIT_S, doubled with each further one, so
that a host that is started again within seconds is not given up. At `most` failures in a row it is: its remaining rows
in this shard get `host_down` and no request. Other shards and workers read of it in the build's notes and leave the
host alone for DOWN_S, as they do with one that asked to be left alone for longer than we wait (Retry-After).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.fetch.notes import Notes
from pipelines.fetch.result import FIRST_WAIT_S, LONGEST_WAIT_S, FetchProblem
from schemas.reasons import Outcome

DOWN_S = 600.0
"""How long other shards leave a host alone that was given up."""
DAY_S = 86_400.0
"""The longest that a host is left alone: a Retry-After may name centuries."""
READ_S = 30.0
"""How often a worker looks whether another one has given a host up."""
FAILURES = frozenset({Outcome.TIMEOUT, Outcome.CONNECTION})
_KIND = "host"


@dataclass
class _Host:
    failures: int = 0
    counted_at: float = float("-inf")
    """When the last failure that counts ended."""
    read_at: float = float("-inf")
    given_up: tuple[Outcome, int | None, str] | None = None
    """Outcome, HTTP status and detail of all further rows."""


class Breaker:
    """The hosts of one shard. Used by several threads; `clock` is that of `time.monotonic`."""

    def __init__(self, most: int, notes: Notes, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._notes, self._clock = most, notes, clock
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def check(self, name: str) -> None:
        """Raise FetchProblem if nothing more is to be sent to the host."""
        with self._lock:
            host = self._hosts.setdefault(name, _Host())
            if host.given_up is None and self._clock() - host.read_at >= READ_S:
                host.read_at = self._clock()
                if (note := self._notes.read(_KIND, name)) is not None:
                    host.given_up = Outcome(note["outcome"]), note["status"], note["detail"]
            if host.given_up is not None:
                outcome, status, detail = host.given_up
                raise FetchProblem(outcome, status=status, detail=detail)

    def failed(self, name: str, started: float) -> float:
        """A request that began at `started` brought nothing. Returns for how many seconds the host is to rest."""
        with self._lock:
            host = self._hosts.setdefault(name, _Host())
            if not self._most or host.given_up is not None or started < host.counted_at:
                return 0.0
            host.failures += 1
            host.counted_at = self._clock()
            if host.failures < self._most:
                return 0.0 if host.failures < 2 else min(FIRST_WAIT_S * 2 ** (host.failures - 2), LONGEST_WAIT_S)
            self._give_up(name, Outcome.HOST_DOWN, None, f"{host.failures} requests in a row unanswered", DOWN_S)
            return 0.0

    def answered(self, name: str) -> None:
        """The host has answered a request, whatever the answer was."""
        with self._lock:
            if (host := self._hosts.get(name)) is not None:
                host.failures = 0

    def leave_alone(self, name: str, problem: FetchProblem, seconds: float) -> None:
        """The host has asked for `seconds` without requests: its remaining rows get the outcome of `problem`."""
        seconds = min(seconds, DAY_S)
        with self._lock:
            self._hosts.setdefault(name, _Host())
            self._give_up(name, problem.outcome, problem.status, f"asks to be left alone for {seconds:.0f} s", seconds)

    def _give_up(self, name: str, outcome: Outcome, status: int | None, detail: str, seconds: float) -> None:
        detail = f"{name}: {detail}"
        self._hosts[name].given_up = outcome, status, detail
        says = {"outcome": outcome.value, "status": status, "detail": detail}
        self._notes.write(_KIND, name, says, seconds)
