"""The addresses of one shard on their way: which may be asked next, and the answers until the caller takes them.

A redirect or another attempt goes back to the queue of its host, so the limit per host holds for them too, and a host
that asks us to wait holds up nobody else. Waiting times are fixed (no jitter): the limit per host already keeps
requests apart, and the same run behaves the same way. When the time for the shard is over, what has not started is
given up: the caller waits for the requests under way and for nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.fetch.address import Target, parse
from pipelines.fetch.hosts import HostQueue
from pipelines.fetch.result import OVER_BUDGET, Fetched, FetchProblem
from schemas.reasons import Outcome
from schemas.spec import Operations

HELD_BYTES = 256 << 20
"""Bodies that may wait for the caller, because an address before them is slow, until nothing new is started. Those
under way come on top: at most `connections` times `max_bytes`."""


@dataclass(frozen=True)
class Job:
    """An address on its way."""

    index: int
    url: str
    target: Target
    """Where it has got to: the address itself, or one that it was redirected to."""
    seconds: float
    """What is left of the attempt's deadline."""
    seen: tuple[str, ...] = ()
    """Addresses the attempt has been at."""
    attempt: int = 0


@dataclass(frozen=True)
class Again:
    """The job goes on: after a redirect, or with another attempt."""

    job: Job
    wait: float = 0.0


@dataclass(frozen=True)
class Ended:
    """A request that is over."""

    job: Job
    result: Fetched | Again
    pause: float = 0.0
    """Seconds that the host is to be left alone."""


class Schedule:
    """The addresses of one `fetch_many`. Used by one thread; `clock` is that of `time.monotonic`."""

    def __init__(
        self,
        urls: Sequence[str],
        operations: Operations,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = operations.connections
        self._clock = clock
        self._end = clock() + operations.shard_seconds
        self._queue: HostQueue[Job] = HostQueue(operations.per_host, clock)
        self._parked: dict[int, Job] = {}
        """Jobs whose turn it was when too much was held."""
        self._done: dict[int, Fetched] = {}
        self._held = 0
        """Bytes of the bodies in `_done`."""
        self._active = 0
        self._over = False
        for index, url in enumerate(urls):
            try:
                job = Job(index, url, parse(url), deadline_s)
            except FetchProblem as problem:
                self._done[index] = Fetched(url, problem.outcome)
            else:
                self._queue.add(job.target.host, job)

    def startable(self, head: int) -> Iterator[Job]:
        """Jobs to start now. `head` is the index that the caller waits for.

        While more than HELD_BYTES wait for the caller, only the head may start: what it lacks frees the others.
        """
        if self._clock() >= self._end and not self._over:
            self._over = True
            for job in [*self._queue.clear(), *self._parked.values()]:
                self._give_up(job)
            self._parked.clear()
        full = self._held >= HELD_BYTES
        for index in [head] if full else sorted(self._parked):
            if (parked := self._parked.pop(index, None)) is not None:
                self._queue.add(parked.target.host, parked)
        while self._active < self._connections and (next_up := self._queue.take()) is not None:
            host, job = next_up
            if full and job.index != head:
                self._queue.release(host)
                self._parked[job.index] = job
            else:
                self._active += 1
                yield job

    def take_in(self, ended: Ended) -> None:
        """A job that was started has ended."""
        host, result = ended.job.target.host, ended.result
        self._active -= 1
        self._queue.release(host)
        self._queue.pause(host, ended.pause)
        if isinstance(result, Fetched):
            self._done[ended.job.index] = result
            self._held += len(result.data or b"")
        elif self._over:
            self._give_up(result.job)
        else:
            self._queue.add(result.job.target.host, result.job, result.wait)

    def until_next(self) -> float | None:
        """Seconds until something may start or the time is over, None if only the end of a request changes anything."""
        if self._active >= self._connections:
            return None
        if self._over:
            return None
        wait = self._queue.until_next()
        left = max(0.0, self._end - self._clock())
        return left if wait is None else min(wait, left)

    def is_done(self, index: int) -> bool:
        """Whether the answer is there."""
        return index in self._done

    def hand_over(self, index: int) -> Fetched:
        """An answer that is there, which is the caller's from now on."""
        result = self._done.pop(index)
        self._held -= len(result.data or b"")
        return result

    def _give_up(self, job: Job) -> None:
        self._done[job.index] = Fetched(job.url, Outcome.TIMEOUT, detail=OVER_BUDGET)
