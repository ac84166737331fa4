"""tdmrep.json patterns, and robots.txt that cannot be had."""

from __future__ import annotations

import time

import pytest

from pipelines.fetch import Fetched
from pipelines.fetch import policies as module
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


def fetch(server: Hostile, *urls: str, retries: int = 0) -> list[Fetched]:
    fetcher = BuiltinFetcher(Limits(deadline_s=20), Operations(retries=retries, resolve=server.resolve))
    try:
        return fetcher.fetch_many(urls)
    finally:
        fetcher.close()


def test_a_failed_policy_is_remembered_for_a_while(server: Hostile) -> None:
    urls = [f"http://broken-robots.test/{n}.jpg" for n in range(20)]
    assert {result.outcome for result in fetch(server, *urls)} == {Outcome.HTTP_SERVER_ERROR}
    assert server.hits["broken-robots.test", "/robots.txt"] == 1


def test_and_then_asked_for_again(server: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILURE_S", 0.1)
    [result] = fetch(server, "http://limited-robots.test/photo.jpg", retries=1)
    assert result.outcome == Outcome.OK
    assert server.hits["limited-robots.test", "/robots.txt"] == 2


def test_opt_outs_can_be_left_to_the_caller(server: Hostile) -> None:
    fetcher = BuiltinFetcher(Limits(respect_opt_out=False), Operations(resolve=server.resolve))
    results = fetcher.fetch_many(["http://deny.test/private/photo.jpg", "http://site.test/tag/noai"])
    fetcher.close()
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.OK]
    assert server.hits["deny.test", "/robots.txt"] == 0
