"""The built-in engine: threads, a queue per host, and one request as the unit of work.

A redirect or another attempt goes back to the queue of its host, so the limit per host holds for them too, and a host
that asks us to wait holds up nobody else. Waiting times are fixed (no jitter): the limit per host already keeps
requests apart, and the same run behaves the same way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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


class BuiltinFetcher:
    """The download engine that needs nothing but this package. One `fetch_many` at a time."""

    def __init__(self, limits: Limits, operations: Operations) -> None:
        self._limits = limits
        self._operations = operations
        self._resolver = Resolver(operations.resolve)
        self._transport = Transport(self._resolver, limits.user_agent, keep=operations.connections)
        self._policies = Policies(self._transport, limits)
        self._pool = ThreadPoolExecutor(max_workers=operations.connections, thread_name_prefix="fetch")

    def fetch_many(self, urls: Sequence[str]) -> list[Fetched]:
        """Fetch all, answers in the order of `urls`."""
        results: dict[int, Fetched] = {}
        queue: HostQueue[_Job] = HostQueue(self._operations.per_host)
        finished: SimpleQueue[tuple[str, Fetched | _Again | BaseException, int]] = SimpleQueue()
        for index, url in enumerate(urls):
            try:
                job = _Job(index, url, parse(url), self._limits.deadline_s)
            except FetchProblem as problem:
                results[index] = Fetched(url, problem.outcome)
            else:
                queue.add(job.target.host, job)

        def work(host: str, job: _Job) -> None:
            try:
                finished.put((host, self._request(job), job.index))
            except BaseException as error:  # a bug of ours: handed to the caller, who would wait for ever otherwise
                finished.put((host, error, job.index))

        active = 0
        while len(results) < len(urls):
            while active < self._operations.connections and (next_up := queue.take()) is not None:
                self._pool.submit(work, *next_up)
                active += 1
            try:
                host, result, index = finished.get(timeout=queue.until_next() if self._has_room(active) else None)
            except Empty:
                continue
            active -= 1
            queue.release(host)
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, Fetched):
                results[index] = result
            else:
                queue.pause(host, result.pause)
                queue.add(result.job.target.host, result.job, result.wait)
        return [results[index] for index in range(len(urls))]

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._transport.close()
        self._resolver.close()

    def _has_room(self, active: int) -> bool:
        return active < self._operations.connections

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
