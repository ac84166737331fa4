"""Hosts that do not answer are given up: when, for how long, and by whom."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from pipelines.fetch.breaker import DAY_S, DOWN_S, READ_S, Breaker
from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.notes import Notes
from pipelines.fetch.result import FetchProblem
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch.hostile import Hostile


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def is_down(breaker: Breaker, host: str = "a") -> bool:
    try:
        breaker.check(host)
    except FetchProblem as problem:
        return problem.outcome == Outcome.HOST_DOWN
    return False


def fail(breaker: Breaker, clock: Clock, seconds: float = 30.0, host: str = "a") -> float:
    """A request that takes so long and brings nothing; returns the rest that the host gets."""
    start = clock.now
    clock.now += seconds
    return breaker.failed(host, start)


def test_failures_one_after_the_other_count() -> None:
    clock = Clock()
    breaker = Breaker(4, Notes(None), clock)
    rests = []
    for _ in range(4):
        assert not is_down(breaker)
        rests.append(fail(breaker, clock))
    assert rests == [0.0, 0.5, 1.0, 0.0]
    assert is_down(breaker)
    assert not is_down(breaker, "b")


def test_failures_side_by_side_are_one() -> None:
    clock = Clock()
    breaker = Breaker(2, Notes(None), clock)
    clock.now = 30.0
    for _ in range(20):
        breaker.failed("a", 0.0)  # all of them began before the first was over
    assert not is_down(breaker)
    fail(breaker, clock)
    assert is_down(breaker)


def test_an_answer_starts_the_count_anew() -> None:
    clock = Clock()
    breaker = Breaker(3, Notes(None), clock)
    for _ in range(5):
        fail(breaker, clock)
        fail(breaker, clock)
        breaker.answered("a")
    assert not is_down(breaker)


def test_zero_is_never() -> None:
    clock = Clock()
    breaker = Breaker(0, Notes(None), clock)
    for _ in range(100):
        fail(breaker, clock)
    assert not is_down(breaker)


def test_other_workers_leave_the_host_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    first, second = (Breaker(2, Notes(tmp_path), clock) for _ in range(2))
    assert not is_down(second)
    fail(first, clock, 1.0)
    fail(first, clock, 1.0)
    assert is_down(first)
    assert not is_down(second), "it has looked a moment ago"
    clock.now += READ_S
    assert is_down(second)
    later = time.time() + DOWN_S
    monkeypatch.setattr(time, "time", lambda: later)
    assert not is_down(Breaker(2, Notes(tmp_path), clock)), "a later shard tries again"
    assert is_down(second), "but this one does not"


def test_a_host_that_asks_for_it_is_left_alone(tmp_path: Path) -> None:
    clock = Clock()
    problem = FetchProblem(Outcome.HTTP_RATE_LIMITED, status=429)
    for seconds in (3600.0, 1e300, float("inf")):
        Breaker(4, Notes(tmp_path), clock).leave_alone("a", problem, seconds)
        with pytest.raises(FetchProblem) as caught:
            Breaker(4, Notes(tmp_path), clock).check("a")
        assert (caught.value.outcome, caught.value.status) == (Outcome.HTTP_RATE_LIMITED, 429)
        assert caught.value.detail == f"a: asks to be left alone for {min(seconds, DAY_S):.0f} s"


def fetch(
    server: Hostile, urls: list[str], notes: Path | None = None, **given: object
) -> list[tuple[Outcome, str | None]]:
    limits = Limits(deadline_s=0.3, respect_opt_out=bool(given.pop("respect_opt_out", False)))
    operations = Operations.model_validate({"resolve": server.resolve, **given})
    with contextlib.closing(BuiltinFetcher(limits, operations, notes)) as fetcher:
        return [(result.outcome, result.detail) for result in fetcher.fetch_many(urls)]


@pytest.mark.parametrize("path", ["slow", "stalled-body", "reset"])
def test_a_host_without_answers_costs_four_requests_in_a_row_and_no_more(
    server: Hostile, tmp_path: Path, path: str
) -> None:
    host = f"{path}.test"
    before = server.hits[host, f"/{path}"]
    urls = [f"http://{host}/{path}?{n}" for n in range(200)]
    others = [f"http://site.test/photo.jpg?{n}" for n in range(5)]
    found = fetch(server, urls + others, tmp_path, per_host=4, retries=3)
    assert {outcome for outcome, _ in found[200:]} == {Outcome.OK}
    down = [detail for outcome, detail in found[:200] if outcome == Outcome.HOST_DOWN]
    assert len(down) > 150
    assert set(down) == {f"{host}: 4 requests in a row unanswered"}
    assert {outcome for outcome, _ in found[:200]} <= {Outcome.HOST_DOWN, Outcome.TIMEOUT, Outcome.CONNECTION}
    assert server.hits[host, f"/{path}"] - before <= 4 * 4, "four rounds of the four that may run at once"
    # The next shard sends it nothing.
    asked = server.hits[host, f"/{path}"]
    assert {outcome for outcome, _ in fetch(server, urls, tmp_path)} == {Outcome.HOST_DOWN}
    assert server.hits[host, f"/{path}"] == asked


def test_a_host_whose_policy_cannot_be_had_is_given_up_too(server: Hostile, tmp_path: Path) -> None:
    urls = [f"http://silent.robots.test/{n}.jpg" for n in range(100)]
    before = server.hits["silent.robots.test", "/robots.txt"]
    found = fetch(server, urls, tmp_path, respect_opt_out=True)
    assert {outcome for outcome, _ in found} <= {Outcome.TIMEOUT, Outcome.HOST_DOWN}
    found = fetch(server, urls, tmp_path, respect_opt_out=True)
    assert {outcome for outcome, _ in found} == {Outcome.HOST_DOWN}
    assert server.hits["silent.robots.test", "/robots.txt"] - before == 4


def test_some_addresses_without_an_answer_do_not_condemn_a_host(server: Hostile) -> None:
    urls = [f"http://site.test/{'reset' if n % 4 else 'photo.jpg'}?{n}" for n in range(8)]
    found = [outcome for outcome, _ in fetch(server, urls, per_host=1, retries=0)]
    assert found == [Outcome.CONNECTION if n % 4 else Outcome.OK for n in range(8)]


def test_a_host_that_wants_an_hour_is_asked_once(server: Hostile, tmp_path: Path) -> None:
    urls = [f"http://429-for-an-hour.test/429-for-an-hour?{n}" for n in range(50)]
    before = server.hits["429-for-an-hour.test", "/429-for-an-hour"]
    for _ in range(2):
        found = fetch(server, urls, tmp_path, per_host=1)
        assert {outcome for outcome, _ in found} == {Outcome.HTTP_RATE_LIMITED}
    assert found[0][1] == "429-for-an-hour.test: asks to be left alone for 3600 s"
    assert server.hits["429-for-an-hour.test", "/429-for-an-hour"] - before == 1


def test_the_time_for_a_shard_is_kept(server: Hostile) -> None:
    """Hosts that answer every fourth request only are never given up; the shard ends all the same, and in order."""
    urls = [f"http://site.test/{'slow' if n % 4 else 'photo.jpg'}?{n}" for n in range(400)]
    start = time.monotonic()
    found = fetch(server, urls, per_host=4, retries=3, shard_seconds=1.0)
    assert time.monotonic() - start < 10, "400 requests of 0.3 s each, in fours, would take half a minute"
    late = [detail for outcome, detail in found if outcome == Outcome.TIMEOUT and detail is not None]
    assert set(late) == {"the time for this shard was over"}
    assert len(late) > 200
    assert found[0][0] == Outcome.OK
