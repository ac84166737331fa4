"""The built-in engine: threads, a queue per host, and one request as the unit of work.

A redirect or another attempt goes back to the queue of its host, so the limit per host holds for them too, and a host
that asks us to wait holds up nobody else. Waiting times are fixed (no jitter): the limit per host already keeps
requests apart, and the same run behaves the same way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from email.message import Message
from queue import Empty, SimpleQueue

from janus.images import ImageProblem, inspect
from pipelines.fetch.address import Resolver, Target, parse, redirected
from pipelines.fetch.dates import retry_after
from pipelines.fetch.hosts import HostQueue
from pipelines.fetch.optout import opted_out
from pipelines.fetch.policies import Policies
from pipelines.fetch.result import FIRST_WAIT_S, LONGEST_RETRY_AFTER_S, Fetched, FetchProblem, outcome_of_status
from pipelines.fetch.transport import Reply, Transport
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations

HELD_BYTES = 256 << 20
"""Bodies that may wait for the caller, because an address before them is slow, until nothing new is started. Those
under way come on top: at most `connections` times `max_bytes`."""
LONGEST_WAIT_S = 30.0
"""Waiting before the next attempt doubles from FIRST_WAIT_S to this."""


@dataclass(frozen=True)
class _Job:
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
class _Again:
    """The job goes on: after a redirect, or with another attempt."""

    job: _Job
    wait: float = 0.0
    pause: float = 0.0
    """Seconds that the host of the request wants to be left alone."""


class _Batch:
    """The addresses of one `fetch_many`: which may be asked next, and the answers until the caller takes them."""

    def __init__(self, urls: Sequence[str], operations: Operations, deadline_s: float) -> None:
        self.finished: SimpleQueue[tuple[str, int, Fetched | _Again | BaseException]] = SimpleQueue()
        """Host, index and result of a request that has ended; filled by other threads."""
        self._connections = operations.connections
        self._queue: HostQueue[_Job] = HostQueue(operations.per_host)
        self._parked: dict[int, _Job] = {}
        """Jobs whose turn it was when too much was held."""
        self._done: dict[int, Fetched] = {}
        self._held = 0
        """Bytes of the bodies in `_done`."""
        self._active = 0
        for index, url in enumerate(urls):
            try:
                job = _Job(index, url, parse(url), deadline_s)
            except FetchProblem as problem:
                self._done[index] = Fetched(url, problem.outcome)
            else:
                self._queue.add(job.target.host, job)

    def startable(self, head: int) -> Iterator[tuple[str, _Job]]:
        """Jobs to start now, with their hosts. `head` is the index that the caller waits for.

        While more than HELD_BYTES wait for the caller, only the head may start: what it lacks frees the others.
        """
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
                yield host, job

    def settle(self, head: int) -> bool:
        """Take in what has ended; if the head has not, wait until something may start. Returns whether it has."""
        wait = self._queue.until_next() if self._active < self._connections else None
        try:
            self._take_in(*self.finished.get(block=head not in self._done, timeout=wait))
            while True:
                self._take_in(*self.finished.get(block=False))
        except Empty:
            return head in self._done

    def _take_in(self, host: str, index: int, result: Fetched | _Again | BaseException) -> None:
        self._active -= 1
        self._queue.release(host)
        if isinstance(result, BaseException):
            raise result
        if isinstance(result, Fetched):
            self._done[index] = result
            self._held += len(result.data or b"")
        else:
            self._queue.pause(host, result.pause)
            self._queue.add(result.job.target.host, result.job, result.wait)

    def hand_over(self, head: int) -> Fetched:
        """The head's answer, which is the caller's from now on."""
        result = self._done.pop(head)
        self._held -= len(result.data or b"")
        return result


class BuiltinFetcher:
    """The download engine that needs nothing but this package. One `fetch_many` at a time."""

    def __init__(self, limits: Limits, operations: Operations) -> None:
        self._limits = limits
        self._operations = operations
        self._resolver = Resolver(operations.resolve)
        self._transport = Transport(self._resolver, limits.user_agent, keep=operations.connections)
        self._policies = Policies(self._transport, limits)
        self._pool = ThreadPoolExecutor(max_workers=operations.connections, thread_name_prefix="fetch")

    def fetch_many(self, urls: Sequence[str]) -> Iterator[Fetched]:
        """Fetch all, answers in the order of `urls`."""
        batch = _Batch(urls, self._operations, self._limits.deadline_s)

        def work(host: str, job: _Job) -> None:
            try:
                batch.finished.put((host, job.index, self._request(job)))
            except BaseException as error:  # a bug of ours: handed to the caller, who would wait for ever otherwise
                batch.finished.put((host, job.index, error))

        def start(head: int) -> None:
            for host, job in batch.startable(head):
                self._pool.submit(work, host, job)

        for head in range(len(urls)):
            start(head)
            while not batch.settle(head):
                start(head)
            start(head)  # the caller may take its time
            yield batch.hand_over(head)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._transport.close()
        self._resolver.close()

    def _request(self, job: _Job) -> Fetched | _Again:
        """Make one request of `job` and say what comes of it."""
        start = time.monotonic()
        final = job.target.url if job.seen else job.url
        try:
            if self._limits.respect_opt_out:
                try:
                    self._policies.check(job.target)
                except FetchProblem as problem:
                    # No pause of the host: nothing is sent to it anyway before its policy is known, and its rows shall
                    # wait for that together, not a few after the others.
                    result = self._failed(job, problem, final)
                    return replace(result, pause=0.0) if isinstance(result, _Again) else result
                start = time.monotonic()  # asking for the site's policy is not part of the request
            reply = self._transport.get(
                job.target, seconds=job.seconds, max_bytes=self._limits.max_bytes, check=self._check_headers
            )
            if reply.location is not None:
                return _Again(self._redirected(job, reply, job.seconds - (time.monotonic() - start)))
            self._check_status(reply)
            inspect(reply.body, max_pixels=self._limits.max_pixels)
        except ImageProblem as problem:
            return Fetched(job.url, problem.outcome, final_url=final, http_status=reply.status)
        except FetchProblem as problem:
            return self._failed(job, problem, final)
        return Fetched(job.url, Outcome.OK, reply.body, final, reply.status)

    def _failed(self, job: _Job, problem: FetchProblem, final: str) -> Fetched | _Again:
        wait = min(FIRST_WAIT_S * 2**job.attempt, LONGEST_WAIT_S)
        asked = problem.retry_after or 0.0
        if problem.outcome.transient and job.attempt < self._operations.retries and asked <= LONGEST_RETRY_AFTER_S:
            fresh = _Job(job.index, job.url, parse(job.url), self._limits.deadline_s, attempt=job.attempt + 1)
            return _Again(fresh, wait=max(wait, asked), pause=asked)
        answered = problem.status is not None
        return Fetched(job.url, problem.outcome, final_url=final if answered else None, http_status=problem.status)

    def _redirected(self, job: _Job, reply: Reply, seconds: float) -> _Job:
        assert reply.location is not None
        target = redirected(job.target, reply.location)
        seen = (*job.seen, job.target.url)
        if target.url in seen or len(seen) > self._limits.redirects:
            raise FetchProblem(Outcome.REDIRECT_LOOP, status=reply.status)
        if seconds <= 0:
            raise FetchProblem(Outcome.TIMEOUT, status=reply.status)
        return replace(job, target=target, seen=seen, seconds=seconds)

    def _check_headers(self, status: int, headers: Message) -> None:
        if self._limits.respect_opt_out and opted_out(headers, self._limits.user_agent):
            raise FetchProblem(Outcome.OPTED_OUT, status=status)

    def _check_status(self, reply: Reply) -> None:
        if not 200 <= reply.status < 300:
            outcome = outcome_of_status(reply.status)
            raise FetchProblem(outcome, status=reply.status, retry_after=retry_after(reply.headers))
