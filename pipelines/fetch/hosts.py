"""Who goes next: a job waits for its time, for a free place at its host, and while the host asked for a pause."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")


@dataclass
class _Host(Generic[Job]):
    active: int = 0
    paused_until: float = 0.0
    waiting: deque[Job] = field(default_factory=deque)


class HostQueue(Generic[Job]):
    """Jobs by time and host. Used by one thread; `clock` is that of `time.monotonic`."""

    def __init__(self, per_host: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_host = per_host
        self._clock = clock
        self._hosts: defaultdict[str, _Host[Job]] = defaultdict(_Host)
        self._heap: list[tuple[float, int, str, Job]] = []
        self._numbers = itertools.count()

    def add(self, host: str, job: Job, wait: float = 0.0) -> None:
        """Let `job` start at `host` in `wait` seconds or later."""
        heapq.heappush(self._heap, (self._clock() + wait, next(self._numbers), host, job))

    def take(self) -> tuple[str, Job] | None:
        """A job that may start now, with its host, which counts as busy until `release`. None if there is none."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            _, number, name, job = heapq.heappop(self._heap)
            host = self._hosts[name]
            if host.paused_until > now:
                heapq.heappush(self._heap, (host.paused_until, number, name, job))
            elif host.active >= self._per_host:
                host.waiting.append(job)
            else:
                host.active += 1
                return name, job
        return None

    def release(self, name: str) -> None:
        """A job of the host has ended."""
        host = self._hosts[name]
        host.active -= 1
        if host.waiting:
            self.add(name, host.waiting.popleft())

    def pause(self, name: str, seconds: float) -> None:
        """Start nothing at the host for so long."""
        host = self._hosts[name]
        host.paused_until = max(host.paused_until, self._clock() + seconds)

    def clear(self) -> list[Job]:
        """Take out all jobs that have not started."""
        jobs = [entry[3] for entry in self._heap]
        self._heap.clear()
        for host in self._hosts.values():
            jobs += host.waiting
            host.waiting.clear()
        return jobs

    def until_next(self) -> float | None:
        """Seconds until `take` can give something, None if only a `release` can change that."""
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
