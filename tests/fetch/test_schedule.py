"""How long a shard takes at worst: the scheduler and the breaker themselves, with a clock that jumps.

The requests are invented (how long each takes, and what comes of it), everything that decides about them is real.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any

import pytest

from pipelines.fetch.address import Target
from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.result import Fetched, FetchProblem
from pipelines.fetch.schedule import Job, Schedule
from pipelines.fetch.transport import Reply
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch.answers import PHOTO
from tests.fetch.test_breaker import Clock

ROWS = 2048
"""Of a shard, by default."""
SILENT = FetchProblem(Outcome.TIMEOUT)

Answer = tuple[float, bytes | FetchProblem]
"""Seconds, and what comes after them."""


@dataclass
class World:
    """In place of the network: a request takes its seconds at once, by setting the clock."""

    clock: Clock
    answer: Callable[[Target, int], Answer]
    """By address and number of the request."""
    requests: int = 0

    def get(self, target: Target, **_: Any) -> Reply:
        self.requests += 1
        seconds, result = self.answer(target, self.requests)
        self.clock.now += seconds
        if isinstance(result, FetchProblem):
            raise FetchProblem(result.outcome, status=result.status, retry_after=result.retry_after)
        return Reply(200, Message(), result)

    def close(self) -> None:
        pass


def simulate(
    urls: list[str], answer: Callable[[Target, int], Answer], **given: object
) -> tuple[float, list[Fetched], int]:
    """Seconds that a shard takes, its answers, and how many requests there were."""
    clock = Clock()
    operations = Operations.model_validate(given)
    limits = Limits(respect_opt_out=False)
    fetcher = BuiltinFetcher(limits, operations, clock=clock)
    fetcher._transport.close()
    world = World(clock, answer)
    fetcher._transport = world  # type: ignore[assignment]
    schedule = Schedule(urls, operations, limits.deadline_s, clock)
    running: list[tuple[float, int, float, Job]] = []
    numbers = itertools.count()
    results = []

    def given_up(host: str) -> bool:
        try:
            fetcher._breaker.check(host)
        except FetchProblem:
            return True
        return False

    def start(head: int) -> None:
        for job in schedule.startable(head):
            # When it will be over is needed first; what comes of it is decided then, as others end before it.
            seconds = 0.0 if given_up(job.target.host) else answer(job.target, 0)[0]
            heapq.heappush(running, (clock.now + seconds, next(numbers), clock.now, job))

    for head in range(len(urls)):
        start(head)
        while not schedule.is_done(head):
            wait = schedule.until_next()
            if running and (wait is None or running[0][0] <= clock.now + wait):
                end, _, begun, job = heapq.heappop(running)
                clock.now = begun
                ended = fetcher.request(job)
                clock.now = end
                schedule.take_in(ended)
            else:
                assert wait is not None, "nothing runs and nothing will: it would hang"
                clock.now += wait
            start(head)
        results.append(schedule.hand_over(head))
    fetcher.close()
    return clock.now, results, world.requests


def rows(hosts: int) -> list[str]:
    return [f"http://host{n % hosts}.test/{n}.jpg" for n in range(ROWS)]


def test_a_shard_of_a_good_host() -> None:
    seconds, results, requests = simulate(rows(1), lambda target, number: (0.5, PHOTO))
    assert {result.outcome for result in results} == {Outcome.OK}
    assert requests == ROWS
    assert seconds == ROWS / 8 * 0.5


def test_a_shard_of_one_silent_host_takes_two_minutes() -> None:
    seconds, results, requests = simulate(rows(1), lambda target, number: (30.0, SILENT))
    assert {result.outcome for result in results} == {Outcome.HOST_DOWN}
    assert requests <= 4 * 8
    # Four rounds of thirty seconds and the rests between them.
    assert 120 <= seconds <= 130


def test_before_there_was_a_breaker_it_took_a_working_day() -> None:
    """What host_failures and shard_seconds are good for: the same shard without them."""
    seconds, results, _ = simulate(rows(1), lambda target, number: (30.0, SILENT), host_failures=0, shard_seconds=1e9)
    assert {result.outcome for result in results} == {Outcome.TIMEOUT}
    assert seconds == pytest.approx(ROWS * 4 / 8 * 30.0, rel=0.02)  # 8.5 hours


@pytest.mark.parametrize("hosts", [1, 4, 32, ROWS])
@pytest.mark.parametrize("every", [2, 3, 4])
def test_no_shard_takes_longer_than_an_hour_and_one_request(hosts: int, every: int) -> None:
    """The worst hosts answer just often enough not to be given up, and use all the time there is."""

    def answer(target: Target, number: int) -> Answer:
        return 30.0, PHOTO if number % every == 0 else SILENT

    seconds, results, _ = simulate(rows(hosts), answer)
    assert len(results) == ROWS
    assert {result.outcome for result in results} <= {Outcome.OK, Outcome.TIMEOUT, Outcome.HOST_DOWN}
    assert seconds <= 3600 + 30


def test_a_shard_of_silent_hosts_with_a_row_each_takes_the_hour() -> None:
    seconds, results, requests = simulate(rows(ROWS), lambda target, number: (30.0, SILENT))
    assert 3600 <= seconds <= 3630
    assert {result.outcome for result in results} == {Outcome.TIMEOUT}
    assert requests <= 3630 / 30 * 32


def test_a_host_that_is_started_again_is_not_given_up() -> None:
    """It refuses connections for a second and a half, as long as the rests of three rounds are."""
    left = 3 * 8

    def answer(target: Target, number: int) -> Answer:
        nonlocal left
        left -= number > 0
        return (0.01, PHOTO) if left < 0 else (0.01, FetchProblem(Outcome.CONNECTION))

    seconds, results, _ = simulate(rows(1)[:100], answer)
    assert {result.outcome for result in results} == {Outcome.OK}
    assert 1.5 <= seconds < 5


def test_a_silent_host_holds_up_nobody_else() -> None:
    """One silent host among 64: its own rows cost two minutes, while all others are long done."""

    def answer(target: Target, number: int) -> Answer:
        return (30.0, SILENT) if target.host == "host0.test" else (0.5, PHOTO)

    seconds, results, _ = simulate(rows(64), answer)
    failed = [result for result in results if result.outcome != Outcome.OK]
    assert len(failed) == ROWS / 64
    assert seconds <= 130
