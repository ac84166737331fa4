"""Every misbehaviour of tests/fetch/hostile.py ends in the outcome it should, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.fetch import Fetched
from pipelines.fetch.builtin import BuiltinFetcher
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch import sites
from tests.fetch.answers import PHOTO
from tests.fetch.behaviours import EXPECTED, full
from tests.fetch.hostile import Hostile
from tests.pictures import PICTURES

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, deadline_s=20, redirects=5)
SHORT = LIMITS.model_copy(update={"deadline_s": 1})
"""For what must run into the deadline; all else gets time enough on a busy machine."""


def fetch_all(server: Hostile, limits: Limits, places: list[str]) -> dict[str, Fetched]:
    resolve = {**server.resolve, "site.test:443": server.place}
    fetcher = BuiltinFetcher(limits, Operations(connections=24, per_host=24, retries=1, resolve=resolve))
    results = list(fetcher.fetch_many([full(place) for place in places]))
    fetcher.close()
    return dict(zip(places, results, strict=True))


@pytest.fixture(scope="module")
def fetched(server: Hostile) -> dict[str, Fetched]:
    """All behaviours at once."""
    late = [place for place, outcome in EXPECTED.items() if outcome == Outcome.TIMEOUT]
    start = time.monotonic()
    results = fetch_all(server, SHORT, late)
    # Two attempts of a second each and half a second between them. Dripping the answer out would take 90 seconds.
    assert time.monotonic() - start < 20
    return {**results, **fetch_all(server, LIMITS, [place for place in EXPECTED if place not in late])}


@pytest.mark.parametrize("place", EXPECTED)
def test_outcome(fetched: dict[str, Fetched], place: str) -> None:
    result = fetched[place]
    assert result.outcome == EXPECTED[place]
    assert result.url == full(place)
    assert (result.data is not None) == (result.outcome == Outcome.OK)


def test_bytes_are_the_original_ones(fetched: dict[str, Fetched]) -> None:
    for name, data in PICTURES.items():
        assert fetched[f"/{name}"].data == data
    for place in ("/gzip.jpg", "/chunked", "/no-length", "/continue", "/redirect", "/503-then-200"):
        assert fetched[place].data == PHOTO


def test_final_address_and_status_are_kept(fetched: dict[str, Fetched]) -> None:
    results = fetched
    assert results["/redirect-301-host"].final_url == "http://other.test/photo.jpg"
    assert results["/redirect-308-relative"].final_url == "http://site.test/photo.webp"
    assert results["/photo.jpg"].final_url == "http://site.test/photo.jpg"
    assert [results[place].http_status for place in ("/photo.jpg", "/404", "/403", "/500")] == [200, 404, 403, 500]
    assert results["/slow"].http_status is None


def test_permanent_failures_are_tried_once_and_transient_ones_again(
    fetched: dict[str, Fetched], server: Hostile
) -> None:
    assert server.hits["site.test", "/404"] == server.hits["site.test", "/403"] == 1
    assert server.hits["site.test", "/500"] == server.hits["site.test", "/429-always"] == 2
    # Asked to come back in an hour, we do not come back sooner.
    assert server.hits["429-for-an-hour.test", "/429-for-an-hour"] == 1


def test_what_is_denied_is_never_asked_for(fetched: dict[str, Fetched], server: Hostile) -> None:
    assert server.hits["deny.test", "/private/photo.jpg"] == 0
    for address, outcome in sites.EXPECTED.items():
        host = address.split("/")[2]
        if outcome != Outcome.OK:
            assert server.hits[host, "/photo.jpg"] == 0, host
    assert server.hits["tdm.test", "/art/photo.jpg"] == 0
    assert server.hits["broken-robots.test", "/photo.jpg"] == 0


def test_site_policies_are_asked_for_once_per_host(fetched: dict[str, Fetched], server: Hostile) -> None:
    for file in ("/robots.txt", "/.well-known/tdmrep.json", "/ai.txt"):
        assert server.hits["site.test", file] == 1


def growth(server: Hostile, code: str, given: str = "") -> int:
    """MiB by which the peak of a process grows while it runs `code`, which has a fetcher of four connections."""
    before = (
        "import sys\n"
        "from pipelines.fetch.builtin import BuiltinFetcher\n"
        "from schemas.spec import Limits, Operations\n"
        "from tests.memory import peak\n"
        "resolve = {'site.test:80': sys.argv[1], 'other.test:80': sys.argv[1]}\n"
        "def fetcher(cap):\n"
        "    limits = Limits(max_bytes=cap << 20, respect_opt_out=False)\n"
        "    return BuiltinFetcher(limits, Operations(connections=4, per_host=4, resolve=resolve))\n"
        "list(fetcher(1).fetch_many(['http://site.test/photo.jpg']))\n"
        "before = peak()\n"
    )
    command = [sys.executable, "-c", f"{before}{code}print(peak() - before)", server.place]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_all_behaviours_at_once_leave_little_in_memory(server: Hostile) -> None:
    """With a cap of 1 MiB, 24 connections and opt-outs kept: none needs more than its share of memory, or for ever."""
    code = (
        "import json\n"
        "urls, resolve = json.load(open(0))\n"
        "limits = Limits(max_bytes=1 << 20, max_pixels=1_000_000, deadline_s=2)\n"
        "engine = BuiltinFetcher(limits, Operations(connections=24, per_host=24, retries=1, resolve=resolve))\n"
        "found = [result.outcome.value for result in engine.fetch_many(urls)]\n"
        "engine.close()\n"
        "assert len(found) == len(urls)\n"
    )
    start = time.monotonic()
    # Twice the cap for each connection, and what a policy of 500 KiB comes to when it is parsed.
    assert growth(server, code, json.dumps([[full(place) for place in EXPECTED], server.resolve])) < 2 * 24 + 50
    assert time.monotonic() - start < 100


def test_memory_stays_bounded(server: Hostile) -> None:
    """With a cap of 1 MiB, 200 MB bodies leave no trace in the peak."""
    code = (
        "paths = ['huge-body', 'chunked-endless', 'gzip-bomb', 'bomb.png', 'long-header'] * 4\n"
        "results = list(fetcher(1).fetch_many(['http://site.test/' + path for path in paths]))\n"
        "assert not [result for result in results if result.data]\n"
    )
    assert growth(server, code) < 40


def test_memory_stays_bounded_while_one_address_holds_up_the_rest(server: Hostile) -> None:
    """640 MiB of photos behind an address that takes five seconds: HELD_BYTES of them are fetched ahead of it."""
    code = (
        "urls = ['http://site.test/503-for-5-seconds', *(f'http://other.test/padded.jpg?{n}' for n in range(80))]\n"
        "fetched = [(result.url, len(result.data)) for result in fetcher(32).fetch_many(urls)]\n"
        "assert [url for url, _ in fetched] == urls\n"
        "assert {size for _, size in fetched[1:]} == {8 << 20}\n"
    )
    at_once = 2 * 4 * 8  # four under way, each copied once
    assert 64 < growth(server, code) < 256 + at_once + 64


def test_every_outcome_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "download.md").read_text()
    for outcome in Outcome:
        repeated = "yes" if outcome.transient else "" if outcome == Outcome.OK else "no"
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{outcome.value}` |")]
        assert line.rsplit("|", 2)[1].strip() == repeated
