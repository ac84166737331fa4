"""The built-in engine: threads, a queue per host (pipelines/fetch/schedule.py), and one request as the unit of work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.message import Message
from pathlib import Path
from queue import Empty, SimpleQueue

from janus.images import ImageProblem
from pipelines.fetch.address import Resolver, parse, redirected
from pipelines.fetch.breaker import FAILURES, Breaker
from pipelines.fetch.dates import retry_after
from pipelines.fetch.notes import Notes
from pipelines.fetch.optout import reserved
from pipelines.fetch.picture import check_picture
from pipelines.fetch.policies import Policies
from pipelines.fetch.result import (
    FIRST_WAIT_S,
    LONGEST_RETRY_AFTER_S,
    LONGEST_WAIT_S,
    Fetched,
    FetchProblem,
    outcome_of_status,
)
from pipelines.fetch.schedule import Again, Ended, Job, Schedule
from pipelines.fetch.transport import Reply, Transport
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations


class BuiltinFetcher:
    """The download engine that needs nothing but this package. One `fetch_many` at a time."""

    def __init__(
        self,
        limits: Limits,
        operations: Operations,
        notes: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`notes` is the folder that the workers of a build share; see pipelines/fetch/notes.py."""
        self._limits = limits
        self._operations = operations
        self._clock = clock
        self._resolver = Resolver(operations.resolve)
        self._transport = Transport(self._resolver, limits.user_agent, keep=operations.connections)
        self._breaker = Breaker(operations.host_failures, Notes(notes), clock)
        self._policies = Policies(self._transport, limits, Notes(notes), self._breaker)
        self._pool = ThreadPoolExecutor(max_workers=operations.connections, thread_name_prefix="fetch")

    def fetch_many(self, urls: Sequence[str]) -> Iterator[Fetched]:
        """Fetch all, answers in the order of `urls`."""
        schedule = Schedule(urls, self._operations, self._limits.deadline_s, self._clock)
        ended: SimpleQueue[Ended | BaseException] = SimpleQueue()

        def work(job: Job) -> None:
            try:
                ended.put(self.request(job))
            except BaseException as error:  # a bug of ours: handed to the caller, who would wait for ever otherwise
                ended.put(error)

        def start(head: int) -> None:
            for job in schedule.startable(head):
                self._pool.submit(work, job)

        def settle(head: int) -> bool:
            """Take in what has ended; if the head has not, wait until something may start. Returns whether it has."""
            wait = schedule.until_next()
            try:
                result = ended.get(block=not schedule.is_done(head), timeout=wait)
                while True:
                    if isinstance(result, BaseException):
                        raise result
                    schedule.take_in(result)
                    result = ended.get(block=False)
            except Empty:
                return schedule.is_done(head)

        for head in range(len(urls)):
            start(head)
            while not settle(head):
                start(head)
            start(head)  # the caller may take its time
            yield schedule.hand_over(head)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._transport.close()
        self._resolver.close()

    def request(self, job: Job) -> Ended:
        """Make one request of `job` and say what comes of it."""
        start = self._clock()
        host, final = job.target.host, job.target.url if job.seen else job.url
        try:
            self._breaker.check(host)
        except FetchProblem as problem:  # not tried again: nothing would be sent then either
            return self._given_up(job, problem, final)
        try:
            if self._limits.respect_opt_out:
                try:
                    self._policies.check(job.target)
                except FetchProblem as problem:
                    # No pause of the host: nothing is sent to it anyway before its policy is known, and its rows shall
                    # wait for that together, not a few after the others.
                    return replace(self._failed(job, problem, final), pause=0.0)
                start = self._clock()  # asking for the site's policy is not part of the request
            reply = self._transport.get(
                job.target, seconds=job.seconds, max_bytes=self._limits.max_bytes, check=self._check_headers
            )
            self._breaker.answered(host)
            if reply.location is not None:
                return Ended(job, Again(self._redirected(job, reply, job.seconds - (self._clock() - start))))
            self._check_status(reply)
            if (what := check_picture(reply.body, self._limits)) is not None:
                raise FetchProblem(Outcome.OPTED_OUT, status=reply.status, detail=what)
        except ImageProblem as problem:
            result = Fetched(job.url, problem.outcome, final_url=final, http_status=reply.status)
            return Ended(job, result)
        except FetchProblem as problem:
            rest = 0.0
            if problem.outcome in FAILURES:
                rest = self._breaker.failed(host, start)
            elif problem.status is not None:
                self._breaker.answered(host)
            ended = self._failed(job, problem, final)
            return replace(ended, pause=max(ended.pause, rest))
        return Ended(job, Fetched(job.url, Outcome.OK, reply.body, final, reply.status))

    def _failed(self, job: Job, problem: FetchProblem, final: str) -> Ended:
        wait = min(FIRST_WAIT_S * 2**job.attempt, LONGEST_WAIT_S)
        asked = problem.retry_after or 0.0
        if asked > LONGEST_RETRY_AFTER_S:
            self._breaker.leave_alone(job.target.host, problem, asked)
        elif problem.outcome.transient and job.attempt < self._operations.retries:
            fresh = Job(job.index, job.url, parse(job.url), self._limits.deadline_s, attempt=job.attempt + 1)
            return Ended(job, Again(fresh, wait=max(wait, asked)), pause=asked)
        return self._given_up(job, problem, final)

    def _given_up(self, job: Job, problem: FetchProblem, final: str) -> Ended:
        final_url = final if problem.status is not None else None
        return Ended(job, Fetched(job.url, problem.outcome, None, final_url, problem.status, problem.detail))

    def _redirected(self, job: Job, reply: Reply, seconds: float) -> Job:
        assert reply.location is not None
        target = redirected(job.target, reply.location)
        seen = (*job.seen, job.target.url)
        if target.url in seen or len(seen) > self._limits.redirects:
            raise FetchProblem(Outcome.REDIRECT_LOOP, status=reply.status)
        if seconds <= 0:
            raise FetchProblem(Outcome.TIMEOUT, status=reply.status)
        return replace(job, target=target, seen=seen, seconds=seconds)

    def _check_headers(self, status: int, headers: Message) -> None:
        if self._limits.respect_opt_out and (what := reserved(headers, self._limits.user_agent)) is not None:
            raise FetchProblem(Outcome.OPTED_OUT, status=status, detail=what)

    def _check_status(self, reply: Reply) -> None:
        if not 200 <= reply.status < 300:
            outcome = outcome_of_status(reply.status)
            raise FetchProblem(outcome, status=reply.status, retry_after=retry_after(reply.headers))
