"""tdmrep.json patterns, and robots.txt that cannot be had."""

from __future__ import annotations

import contextlib
import time

import pytest

from pipelines.fetch import Fetched
from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.policies import matches, tdm_rules
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch.hostile import Hostile


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/a.jpg", True),
        ("/art/*", "/art/a.jpg", True),
        ("/art/*", "/arts/a.jpg", False),
        ("*.jpg$", "/x/a.jpg", True),
        ("*.jpg$", "/x/a.jpg?size=1", False),
        ("/a.jpg$", "/a.jpg", True),
        ("/a.jpg$", "/a.jpg2", False),
        ("/*/b/*.png", "/a/b/c.png?x", True),
        ("/*/b/*.png", "/b/c.png", False),
        ("/a*a$", "/a", False),  # the star's two sides do not share a letter
        ("", "/anything", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) == expected


def test_a_hostile_pattern_takes_no_time() -> None:
    start = time.monotonic()
    assert not matches("*a" * 5000 + "*b$", "/" + "a" * 5000)
    assert time.monotonic() - start < 5  # a regular expression would take years


@pytest.mark.parametrize("text", ["", "null", "{}", "[1, null]", "[" * 100_000, '[{"location": 3}]'])
def test_unreadable_reservations_reserve_nothing(text: str) -> None:
    assert tdm_rules(text) == []


def fetch(server: Hostile, *urls: str, **operations: int) -> list[Fetched]:
    fetcher = BuiltinFetcher(
        Limits(deadline_s=20), Operations.model_validate({"resolve": server.resolve, **operations})
    )
    with contextlib.closing(fetcher):
        return list(fetcher.fetch_many(urls))


def test_a_failed_policy_is_remembered_for_a_while(server: Hostile) -> None:
    urls = [f"http://broken-robots.test/{n}.jpg" for n in range(20)]
    assert {result.outcome for result in fetch(server, *urls, retries=0)} == {Outcome.HTTP_SERVER_ERROR}
    assert server.hits["broken-robots.test", "/robots.txt"] == 1


def test_rows_of_a_dead_host_together_cost_one_request_per_attempt(server: Hostile) -> None:
    urls = [f"http://broken-robots.test/{n}.jpg" for n in range(100)]
    before = server.hits["broken-robots.test", "/robots.txt"]
    start = time.monotonic()
    assert {result.outcome for result in fetch(server, *urls, retries=2, per_host=2)} == {Outcome.HTTP_SERVER_ERROR}
    assert 3 <= server.hits["broken-robots.test", "/robots.txt"] - before <= 10  # 3, but for a very busy machine
    assert time.monotonic() - start < 10, "rows wait together: one after the other they would take a minute"


@pytest.mark.parametrize("host", ["limited-robots.test", "busy-robots.test"])
def test_a_row_outlasts_a_short_failure_of_its_policy(server: Hostile, host: str) -> None:
    """With the retries that everybody has, and other rows that come while the failure is still remembered."""
    results = fetch(server, *(f"http://{host}/photo.jpg?{n}" for n in range(20)), per_host=4)
    assert {result.outcome for result in results} == {Outcome.OK}
    assert server.hits[host, "/robots.txt"] == 2


def test_a_policy_is_waited_for_as_long_as_the_site_asks(server: Hostile) -> None:
    start = time.monotonic()
    results = fetch(server, *(f"http://patient-robots.test/photo.jpg?{n}" for n in range(20)), retries=1)
    assert time.monotonic() - start >= 2
    assert {result.outcome for result in results} == {Outcome.OK}
    assert server.hits["patient-robots.test", "/robots.txt"] == 2


def test_but_not_for_an_hour(server: Hostile) -> None:
    fetcher = BuiltinFetcher(Limits(), Operations(resolve=server.resolve))
    start = time.monotonic()
    with contextlib.closing(fetcher):
        for _ in range(3):
            [result] = fetcher.fetch_many(["http://closed-robots.test/photo.jpg"])
            assert (result.outcome, result.http_status) == (Outcome.HTTP_SERVER_ERROR, 503)
            time.sleep(0.3)
    assert time.monotonic() - start < 3, "left alone for this run, and no attempt wasted on it"
    assert server.hits["closed-robots.test", "/robots.txt"] == 1


def test_opt_outs_can_be_left_to_the_caller(server: Hostile) -> None:
    fetcher = BuiltinFetcher(Limits(respect_opt_out=False), Operations(resolve=server.resolve))
    results = list(fetcher.fetch_many(["http://deny.test/private/photo.jpg", "http://site.test/tag/noai"]))
    fetcher.close()
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    assert server.hits["deny.test", "/robots.txt"] == 0
