"""Every misbehaviour of tests/fetch/hostile.py ends in the outcome it should, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.fetch import Fetched
from pipelines.fetch.builtin import BuiltinFetcher
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch.hostile import PHOTO, ROBOTS_TAGS, ROBOTS_TAGS_ALLOWING, Hostile
from tests.pictures import PICTURES

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, deadline_s=20, redirects=5)
SHORT = LIMITS.model_copy(update={"deadline_s": 1})
"""For what must run into the deadline; all else gets time enough on a busy machine."""

EXPECTED: dict[str, Outcome] = {
    "": Outcome.BAD_URL,
    "not a url": Outcome.BAD_URL,
    "site.test/photo.jpg": Outcome.BAD_URL,
    "ftp://site.test/photo.jpg": Outcome.BAD_URL,
    "file:///etc/passwd": Outcome.BAD_URL,
    "http://": Outcome.BAD_URL,
    "http://user:secret@site.test/photo.jpg": Outcome.BAD_URL,
    "http://127.0.0.1/photo.jpg": Outcome.FORBIDDEN_ADDRESS,
    "http://localhost/photo.jpg": Outcome.FORBIDDEN_ADDRESS,
    "http://169.254.169.254/latest/meta-data/": Outcome.FORBIDDEN_ADDRESS,
    "http://[::1]/photo.jpg": Outcome.FORBIDDEN_ADDRESS,
    "http://no-such-host.invalid/photo.jpg": Outcome.CONNECTION,
    "/400": Outcome.HTTP_REFUSED,
    "/401": Outcome.HTTP_REFUSED,
    "/403": Outcome.HTTP_REFUSED,
    "/404": Outcome.HTTP_GONE,
    "/410": Outcome.HTTP_GONE,
    "/429-then-200": Outcome.OK,
    "/429-for-an-hour": Outcome.HTTP_RATE_LIMITED,
    "/429-always": Outcome.HTTP_RATE_LIMITED,
    "/500": Outcome.HTTP_SERVER_ERROR,
    "/503-then-200": Outcome.OK,
    "/503-retry-date": Outcome.OK,
    "/408-then-200": Outcome.OK,
    "/304": Outcome.HTTP_REFUSED,
    "/204": Outcome.NOT_AN_IMAGE,
    "/redirect": Outcome.OK,
    "/redirect-301-host": Outcome.OK,
    "/redirect-308-relative": Outcome.OK,
    "/redirect-utf8": Outcome.OK,
    "/redirect-loop": Outcome.REDIRECT_LOOP,
    "/redirect-chain-4": Outcome.OK,
    "/redirect-chain-5": Outcome.REDIRECT_LOOP,
    "/redirect-metadata": Outcome.FORBIDDEN_ADDRESS,
    "/redirect-private": Outcome.FORBIDDEN_ADDRESS,
    "/redirect-loopback": Outcome.FORBIDDEN_ADDRESS,
    "/redirect-mapped": Outcome.FORBIDDEN_ADDRESS,
    "/redirect-number": Outcome.FORBIDDEN_ADDRESS,
    "/redirect-ftp": Outcome.BAD_URL,
    "/redirect-file": Outcome.BAD_URL,
    "/redirect-broken": Outcome.BAD_URL,
    "/redirect-nowhere": Outcome.HTTP_REFUSED,
    "/redirect-to-denied": Outcome.OPTED_OUT,
    "/slow": Outcome.TIMEOUT,
    "/drip-body": Outcome.TIMEOUT,
    "/drip-headers": Outcome.TIMEOUT,
    "/truncated": Outcome.TRUNCATED,
    "/length-too-small": Outcome.BAD_IMAGE,  # a whole answer as far as HTTP goes, so the image is what is cut
    "/length-huge": Outcome.TOO_LARGE,
    "/no-length": Outcome.OK,
    "/length-nonsense": Outcome.OK,
    "/chunked": Outcome.OK,
    "/chunked-truncated": Outcome.TRUNCATED,
    "/chunked-endless": Outcome.TOO_LARGE,
    "/huge-body": Outcome.TOO_LARGE,
    "/empty": Outcome.NOT_AN_IMAGE,
    "/html": Outcome.NOT_AN_IMAGE,
    "/svg": Outcome.NOT_AN_IMAGE,
    "/bomb.png": Outcome.TOO_MANY_PIXELS,
    "/gzip.jpg": Outcome.OK,
    "/gzip-broken": Outcome.BAD_IMAGE,
    "/gzip-bomb": Outcome.TOO_LARGE,
    "/brotli": Outcome.NOT_AN_IMAGE,
    "/reset": Outcome.CONNECTION,
    "/silent-close": Outcome.CONNECTION,
    "/garbage": Outcome.CONNECTION,
    "/many-headers": Outcome.CONNECTION,
    "/long-header": Outcome.CONNECTION,
    "/continue": Outcome.OK,
    "/tdm-header": Outcome.OPTED_OUT,
    "/tdm-header-0": Outcome.OK,
    "http://deny.test/private/photo.jpg": Outcome.OPTED_OUT,
    "http://deny.test/photo.jpg": Outcome.OK,
    "http://moved-robots.test/private/photo.jpg": Outcome.OPTED_OUT,
    "http://forbidden-robots.test/private/photo.jpg": Outcome.OK,
    "http://broken-robots.test/photo.jpg": Outcome.HTTP_SERVER_ERROR,
    "http://tdm.test/art/photo.jpg": Outcome.OPTED_OUT,
    "http://tdm.test/art/free/photo.jpg": Outcome.OK,
    "http://tdm.test/photo.jpg": Outcome.OK,
    "https://site.test/photo.jpg": Outcome.TIMEOUT,  # the server never answers the TLS hello
    **{f"/tag/{name}": Outcome.OPTED_OUT for name in ROBOTS_TAGS},
    **{f"/tag-allowing/{name}": Outcome.OK for name in ROBOTS_TAGS_ALLOWING},
    **{f"/{name}": Outcome.OK for name in PICTURES},
}
"""Address (or path on site.test) to outcome, with one attempt after the first."""


def full(place: str) -> str:
    return f"http://site.test{place}" if place.startswith("/") else place


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
    assert server.hits["site.test", "/429-for-an-hour"] == 1


def test_what_is_denied_is_never_asked_for(fetched: dict[str, Fetched], server: Hostile) -> None:
    for host in ("deny.test", "moved-robots.test"):
        assert server.hits[host, "/private/photo.jpg"] == 0
    assert server.hits["tdm.test", "/art/photo.jpg"] == 0
    assert server.hits["broken-robots.test", "/photo.jpg"] == 0


def test_site_policies_are_asked_for_once_per_host(fetched: dict[str, Fetched], server: Hostile) -> None:
    fetchers = 2  # one with each deadline
    assert server.hits["site.test", "/robots.txt"] == fetchers
    assert server.hits["site.test", "/.well-known/tdmrep.json"] == fetchers


def growth(server: Hostile, code: str) -> int:
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
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


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
