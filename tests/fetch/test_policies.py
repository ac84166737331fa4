"""Patterns, tdmrep.json, policies that cannot be had, and how workers share what they have learned."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.fetch import Fetched
from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.patterns import matches
from pipelines.fetch.policies import LIFETIME_S
from pipelines.fetch.robots import Unreadable
from pipelines.fetch.tdm import tdm_rules
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


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"{}", b"[1, null]", b'[{"location": 3}]', b"7", b'"x"'])
def test_files_without_reservations(body: bytes) -> None:
    assert tdm_rules(body) == []


@pytest.mark.parametrize(
    "body",
    [b"{", b"[" * 100_000, b"[1,]", b"\xff\xfe", b"1" * 5000, b'{"tdm-reservation": 1}', b"\x80", b"no JSON"],
    ids=range(8),
)
def test_files_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        tdm_rules(body)


@pytest.mark.parametrize(
    ("value", "reserved"), [("1", True), ('"1"', True), ("2", True), ("true", True), ("0", False), ('"0"', False)]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_reservations(value: str, reserved: bool, encoding: str) -> None:
    body = f'[{{"location": "/é*", "tdm-reservation": {value}}}]'.encode(encoding)
    assert tdm_rules(body) == [("/é*", reserved)]


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


def test_each_site_is_asked_once_by_all_workers_of_a_build(server: Hostile, tmp_path: Path) -> None:
    """Four processes with four shards each, at the same time, of hosts that allow, refuse and cannot be read."""
    hosts = ["other.test", "everybody.robots.test", "utf-16.robots.test", "jpg.ai.test", "all.tdm.test", "deny.test"]
    before = dict(server.hits)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(server.resolve), str(tmp_path), *hosts],
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    found = [child.communicate(timeout=120)[0].split() for child in children]
    assert found == [["ok", "opted_out", "opted_out", "opted_out", "opted_out", "ok"] * 4] * 4
    for host in hosts:
        asked = server.hits[host, "/robots.txt"] - before.get((host, "/robots.txt"), 0)
        assert asked == 1, host
    assert server.hits["other.test", "/photo.jpg"] - before.get(("other.test", "/photo.jpg"), 0) == 16


WORKER = """
import json, sys
from pathlib import Path
from pipelines.fetch import make_fetcher
from schemas.spec import Limits, Operations
for shard in range(4):
    fetcher = make_fetcher(Limits(), Operations(resolve=json.loads(sys.argv[1])), Path(sys.argv[2]))
    for result in fetcher.fetch_many([f"http://{host}/photo.jpg" for host in sys.argv[3:]]):
        print(result.outcome.value)
    fetcher.close()
"""


def test_workers_share_a_failure_too(server: Hostile, tmp_path: Path) -> None:
    """Eight threads that are workers of their own: one request in all, while it is remembered."""
    host = "500.robots.test"
    before = server.hits[host, "/robots.txt"]

    def worker(_: int) -> Outcome:
        operations = Operations(resolve=server.resolve, retries=0)
        with contextlib.closing(BuiltinFetcher(Limits(), operations, tmp_path)) as fetcher:
            return next(fetcher.fetch_many([f"http://{host}/photo.jpg"])).outcome

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(worker, range(8))) == {Outcome.HTTP_SERVER_ERROR}
    assert server.hits[host, "/robots.txt"] - before <= 2


def test_what_is_remembered_of_a_site_is_asked_for_again_after_a_day(server: Hostile, tmp_path: Path) -> None:
    def once() -> None:
        fetcher = BuiltinFetcher(Limits(), Operations(resolve=server.resolve), tmp_path)
        with contextlib.closing(fetcher):
            assert [result.outcome for result in fetcher.fetch_many(["http://other.test/photo.jpg"])] == [Outcome.OK]

    once()
    before = server.hits["other.test", "/robots.txt"]
    once()
    assert server.hits["other.test", "/robots.txt"] == before
    for path in tmp_path.rglob("*.json"):
        note = json.loads(path.read_text())
        path.write_text(json.dumps({**note, "until": note["until"] - LIFETIME_S}))
    once()
    assert server.hits["other.test", "/robots.txt"] == before + 1
    for path in tmp_path.rglob("*.json"):
        path.write_text("{")
    once()
    assert server.hits["other.test", "/robots.txt"] == before + 2


def test_what_reserved_a_picture_is_told(server: Hostile) -> None:
    wanted = {
        "http://utf-16.robots.test/photo.jpg": "robots.txt cannot be read: not text in UTF-8",
        "http://brotli.robots.test/photo.jpg": "robots.txt cannot be read: sent in an encoding that was not asked for",
        "http://wrong-gzip-label.robots.test/photo.jpg": "robots.txt cannot be read: damaged compression",
        "http://redirect-loop.robots.test/photo.jpg": "robots.txt cannot be read: redirects without end",
        "http://latin-1-rule.robots.test/photo.jpg": "robots.txt cannot be read: not text in UTF-8",
        "http://everybody.robots.test/photo.jpg": "robots.txt: Disallow",
        "http://signal.robots.test/photo.jpg": "robots.txt: Content-Signal",
        "http://usage.robots.test/photo.jpg": "robots.txt: Content-Usage",
        "http://training.robots.test/photo.jpg": "robots.txt: DisallowAITraining",
        "http://jpg.ai.test/photo.jpg": "ai.txt: Disallow",
        "http://all.tdm.test/photo.jpg": "tdmrep.json",
        "http://over-500-kib.tdm.test/photo.jpg": ".well-known/tdmrep.json cannot be read: over 512000 bytes",
        "http://cut-json.tdm.test/photo.jpg": ".well-known/tdmrep.json cannot be read: not JSON",
        "http://site.test/tag/after-value": "X-Robots-Tag: max-image-preview: large, noai",
        "http://site.test/header/signal": "Content-Signal: search=yes, ai-train=no",
        "http://site.test/picture/xmp-prohibited": "XMP plus:DataMining: DMI-PROHIBITED",
        "http://site.test/photo.jpg": None,
    }
    assert {result.url: result.detail for result in fetch(server, *wanted)} == wanted


def test_opt_outs_can_be_left_to_the_caller(server: Hostile) -> None:
    before = server.hits["deny.test", "/robots.txt"]
    places = ("deny.test/private/photo.jpg", "site.test/tag/noai", "site.test/picture/xmp-jpeg")
    urls = [f"http://{place}" for place in places]
    fetcher = BuiltinFetcher(Limits(respect_opt_out=False), Operations(resolve=server.resolve))
    results = list(fetcher.fetch_many(urls))
    fetcher.close()
    assert [result.outcome for result in results] == [Outcome.OK] * 3
    assert server.hits["deny.test", "/robots.txt"] == before
