"""The img2dataset engine against the same hostile server: what it can do, and that what it cannot hurts nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.fetch import make_fetcher
from pipelines.fetch.img2dataset_engine import Img2datasetFetcher, classify
from pipelines.fetch.img2dataset_guard import refusal
from pipelines.fetch.result import OVER_BUDGET, FetchProblem
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch import sites
from tests.fetch.behaviours import EXPECTED, full
from tests.fetch.hostile import Hostile
from tests.pictures import PICTURES

LIMITS = Limits(max_bytes=1 << 20, max_pixels=1_000_000, deadline_s=5)

HANGING = frozenset({"/drip-body", "/drip-headers"})
"""It never comes back from these."""


def engine(server: Hostile, **operations: object) -> Img2datasetFetcher:
    given = {"download_engine": "img2dataset", "resolve": server.resolve, "connections": 64, **operations}
    made = make_fetcher(LIMITS, Operations.model_validate(given))
    assert isinstance(made, Img2datasetFetcher)
    return made


@pytest.mark.slow
def test_hostile_server(server: Hostile) -> None:
    """All that the built-in engine is tested with."""
    places = [place for place in EXPECTED if place not in HANGING]
    fetcher = engine(server, retries=1)
    results = dict(zip(places, fetcher.fetch_many([full(place) for place in places]), strict=True))
    fetcher.close()
    found = {place: result.outcome for place, result in results.items()}
    assert found == {place: EXPECTED[place] for place in places}
    for name, data in PICTURES.items():
        assert results[f"/{name}"].data == data
    assert all((result.data is not None) == (result.outcome == Outcome.OK) for result in results.values())
    assert all(result.detail for result in results.values() if result.outcome == Outcome.OPTED_OUT)
    assert results["/404"].http_status == 404
    assert server.hits["site.test", "/404"] == 1
    for address, outcome in sites.EXPECTED.items():
        assert outcome == Outcome.OK or server.hits[address.split("/")[2], "/photo.jpg"] == 0, address


def test_the_time_for_a_shard_is_kept(server: Hostile) -> None:
    """It takes longer than a second to start, so none of its rows is asked for."""
    fetcher = engine(server, shard_seconds=1)
    results = list(fetcher.fetch_many([full("/photo.jpg"), "http://127.0.0.1/x", full("/404")]))
    fetcher.close()
    assert [result.outcome for result in results] == [Outcome.TIMEOUT, Outcome.FORBIDDEN_ADDRESS, Outcome.TIMEOUT]
    assert results[0].detail == OVER_BUDGET


@pytest.mark.slow
def test_a_dripping_server_costs_its_shard_and_no_more(server: Hostile) -> None:
    fetcher = engine(server, retries=0, connections=2)
    urls = [full(path) for path in ("/photo.jpg", "/photo.webp", "/drip-headers", "/grey.jpg", "/deep.png", "/404")]
    start = time.monotonic()
    outcomes = [result.outcome for result in fetcher.fetch_many(urls)]
    fetcher.close()
    # Shards of two: the second hangs, is given up after the deadline and ten seconds, and the third is started anew.
    assert outcomes[:2] == [Outcome.OK, Outcome.OK]
    assert outcomes[2] == outcomes[3] == Outcome.ENGINE_ERROR
    assert outcomes[4:] == [Outcome.OK, Outcome.HTTP_GONE]
    assert time.monotonic() - start < 1500


@pytest.mark.slow
def test_bodies_wait_on_disk(server: Hostile) -> None:
    """40 photos of 8 MiB, 320 MiB in all; measured in a process of its own."""
    code = (
        "import sys\n"
        "from pipelines.fetch import make_fetcher\n"
        "from schemas.spec import Limits, Operations\n"
        "from tests.memory import peak\n"
        "resolve = {'site.test:80': sys.argv[1]}\n"
        "operations = Operations(download_engine='img2dataset', resolve=resolve, connections=8)\n"
        "fetcher = make_fetcher(Limits(respect_opt_out=False), operations)\n"
        "before = peak()\n"
        "for result in fetcher.fetch_many([f'http://site.test/padded.jpg?{n}' for n in range(40)]):\n"
        "    assert result.data is not None and len(result.data) == 8 << 20, result.outcome\n"
        "    del result\n"
        "print(peak() - before)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, server.place]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=900)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 200


@pytest.mark.slow
def test_nothing_is_left_running_when_the_build_is_killed() -> None:
    code = (
        "import json, sys\n"
        "from pipelines.fetch import make_fetcher\n"
        "from schemas.spec import Limits, Operations\n"
        "operations = Operations(download_engine='img2dataset', resolve=json.loads(sys.argv[1]))\n"
        "list(make_fetcher(Limits(respect_opt_out=False), operations).fetch_many(['http://site.test/slow']))\n"
    )
    server = Hostile()
    root = Path(__file__).resolve().parents[2]
    build = subprocess.Popen([sys.executable, "-c", code, json.dumps(server.resolve)], cwd=root)
    try:
        wait_until(lambda: server.hits["site.test", "/slow"] > 0, 900)
        family = descendants(build.pid)
    finally:
        build.kill()
        build.wait()
        server.stop()
    assert len(family) >= 3  # the child, its logger, its worker
    wait_until(lambda: not any(alive(pid) for pid in family), 20)


def wait_until(done, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [pid]
    for parent in found:
        found += [child for child, above in parents.items() if above == parent]
    return found[1:]


@pytest.mark.parametrize(
    ("message", "outcome", "status"),
    [
        ("HTTP Error 404: Not Found", Outcome.HTTP_GONE, 404),
        ("HTTP Error 403: Forbidden", Outcome.HTTP_REFUSED, 403),
        ("HTTP Error 429: Too Many Requests", Outcome.HTTP_RATE_LIMITED, 429),
        ("HTTP Error 503: Busy", Outcome.HTTP_SERVER_ERROR, 503),
        (
            "HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.\nThe last "
            "30x error message was:\nFound",
            Outcome.REDIRECT_LOOP,
            302,
        ),
        (
            "HTTP Error 302: Found - Redirection to url 'file:///etc/passwd' is not allowed",
            Outcome.BAD_URL,
            302,
        ),
        (f"<urlopen error {refusal(FetchProblem(Outcome.OPTED_OUT, status=200))}>", Outcome.OPTED_OUT, 200),
        ("IncompleteRead(18787 bytes read, 18788 more expected)", Outcome.TRUNCATED, None),
        ("timed out", Outcome.TIMEOUT, None),
        ("<urlopen error timed out>", Outcome.TIMEOUT, None),
        ("<urlopen error [Errno -2] Name or service not known>", Outcome.CONNECTION, None),
        ("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>", Outcome.CONNECTION, None),
        (f"<urlopen error {refusal(FetchProblem(Outcome.FORBIDDEN_ADDRESS))}>", Outcome.FORBIDDEN_ADDRESS, None),
        ("Remote end closed connection without response", Outcome.CONNECTION, None),
        ("[Errno 104] Connection reset by peer", Outcome.CONNECTION, None),
        ("unknown url type: 'x'", Outcome.BAD_URL, None),
        ("'NoneType' object has no attribute 'read'", Outcome.ENGINE_ERROR, None),
        ("", Outcome.ENGINE_ERROR, None),
    ],
)
def test_messages_become_outcomes(message: str, outcome: Outcome, status: int | None) -> None:
    problem = classify(message)
    assert (problem.outcome, problem.status) == (outcome, status)


def test_what_the_guard_refuses_is_told_in_full() -> None:
    for detail in (None, "X-Robots-Tag: noai", "odd > 'text' <"):
        told = classify(f"<urlopen error {refusal(FetchProblem(Outcome.OPTED_OUT, status=302, detail=detail))}>")
        assert (told.outcome, told.status, told.detail) == (Outcome.OPTED_OUT, 302, detail)
