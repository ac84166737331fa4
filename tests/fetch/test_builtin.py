"""What the built-in engine does besides surviving: order, places per host, connections, waiting, TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.fetch import schedule
from pipelines.fetch.builtin import BuiltinFetcher
from pipelines.fetch.dates import retry_after
from schemas.reasons import Outcome
from schemas.spec import Limits, Operations
from tests.fetch.answers import PHOTO
from tests.fetch.hostile import Hostile


def fetcher(server: Hostile, **operations: object) -> BuiltinFetcher:
    limits = Limits(deadline_s=20, respect_opt_out=False)
    return BuiltinFetcher(limits, Operations.model_validate({"resolve": server.resolve, **operations}))


def test_answers_come_in_the_order_asked_and_twice_if_asked_twice(server: Hostile) -> None:
    engine = fetcher(server)
    urls = [f"http://site.test/{name}" for name in ("photo.webp", "404", "photo.jpg", "404", "photo.webp")]
    results = list(engine.fetch_many(urls))
    assert [result.url for result in results] == urls
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.HTTP_GONE] * 2 + [Outcome.OK]
    assert results[0].data == results[4].data != results[2].data
    assert list(engine.fetch_many([])) == []
    engine.close()


@pytest.mark.parametrize("per_host", [1, 2, 16])
@pytest.mark.parametrize("held", [1, 50_000])
def test_a_full_hold_stops_the_others_and_never_all(
    server: Hostile, monkeypatch: pytest.MonkeyPatch, per_host: int, held: int
) -> None:
    """Redirects, retries, pauses and hosts with too few places, with room for no or a few bodies ahead of the head."""
    paths = ["/redirect-301-host", "/reset", "/photo.jpg", "/404", "/redirect-chain-3", "/counted", "/truncated"]
    urls = [f"http://{host}{path}?{n}" for n in range(5) for path in paths for host in ("site.test", "other.test")]
    urls[3] = ""
    roomy = fetcher(server, retries=1, host_failures=0)
    expected = list(roomy.fetch_many(urls))
    roomy.close()
    monkeypatch.setattr(schedule, "HELD_BYTES", held)
    tight = fetcher(server, retries=1, host_failures=0, per_host=per_host, connections=6)
    assert list(tight.fetch_many(urls)) == expected
    tight.close()


def test_the_next_addresses_are_fetched_while_the_caller_is_busy(server: Hostile) -> None:
    engine = fetcher(server, connections=4)
    answers = engine.fetch_many([f"http://site.test/photo.jpg?ahead-{n}" for n in range(20)])
    before = server.hits["site.test", "/photo.jpg"]
    next(answers)
    end = time.monotonic() + 20
    while server.hits["site.test", "/photo.jpg"] - before < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert server.hits["site.test", "/photo.jpg"] - before >= 4
    assert len(list(answers)) == 19
    engine.close()


@pytest.mark.parametrize("per_host", [1, 3])
def test_places_per_host(server: Hostile, per_host: int) -> None:
    server.busiest = 0
    engine = fetcher(server, per_host=per_host, connections=16)
    results = list(engine.fetch_many([f"http://site.test/counted?{n}" for n in range(12)]))
    engine.close()
    assert {result.outcome for result in results} == {Outcome.OK}
    assert server.busiest == per_host


def test_connections_are_kept(server: Hostile) -> None:
    before = server.connections
    engine = fetcher(server, per_host=2)
    results = list(engine.fetch_many([f"http://site.test/photo.jpg?{n}" for n in range(100)]))
    engine.close()
    assert {result.outcome for result in results} == {Outcome.OK}
    assert server.connections - before <= 2


def test_a_host_that_wants_a_pause_holds_up_nobody_else(server: Hostile) -> None:
    engine = fetcher(server, connections=2, retries=1)
    start = time.monotonic()
    urls = ["http://site.test/429-then-200", *(f"http://other.test/counted?{n}" for n in range(9))]
    results = list(engine.fetch_many(urls))
    seconds = time.monotonic() - start
    engine.close()
    assert {result.outcome for result in results} == {Outcome.OK}
    assert seconds >= 1.0  # the pause that was asked for
    assert server.hits["site.test", "/429-then-200"] == 2
    # The second request to the host came after all others, which did not queue behind it.
    assert server.order[-1] == ("site.test", "/429-then-200")


def test_attempts_wait_longer_each_time(server: Hostile) -> None:
    engine = fetcher(server, retries=2)
    start = time.monotonic()
    [result] = engine.fetch_many(["http://site.test/500"])
    engine.close()
    assert result.outcome == Outcome.HTTP_SERVER_ERROR
    assert time.monotonic() - start >= 1.5  # 0.5 s, then 1 s
    assert server.hits["site.test", "/500"] == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2015 00:01:00 GMT", 0.0),
        ("soon", None),
        ("²", None),
        ("9" * 400, float("inf")),
        ("Mon, 99999999999 Jan 2020 00:00:00 GMT", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    headers = Message()
    headers["Retry-After"] = value
    assert retry_after(headers, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


def test_a_request_says_who_asks(server: Hostile) -> None:
    limits = Limits(user_agent="my-corpus/1.0 (+https://example.org)", respect_opt_out=False)
    seen: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.update(self.headers.items())
            self.send_response(404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{listener.server_address[1]}"
    engine = BuiltinFetcher(limits, Operations(resolve={"host.test:8080": place}))
    list(engine.fetch_many(["http://host.test:8080/x"]))
    engine.close()
    listener.shutdown()
    assert seen["Host"] == "host.test:8080"
    assert seen["User-Agent"] == "my-corpus/1.0 (+https://example.org)"
    assert seen["Accept-Encoding"] == "identity"
    assert "Cookie" not in seen


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=secure.test -keyout key.pem -out cert.pem"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:secure.test"], cwd=folder, check=True, capture_output=True
    )
    return folder


def test_certificates_are_checked_against_the_host(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PHOTO)))
            self.end_headers()
            self.wfile.write(PHOTO)

        def log_message(self, *args: object) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    listener.handle_error = lambda *args: None  # type: ignore[method-assign]
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{listener.server_address[1]}"
    limits = Limits(deadline_s=20, respect_opt_out=False)
    operations = Operations(retries=0, resolve={"secure.test:443": place, "other.test:443": place})
    urls = ["https://secure.test/a.jpg", "https://other.test/a.jpg"]

    stranger = BuiltinFetcher(limits, operations)
    assert [result.outcome for result in stranger.fetch_many(urls)] == [Outcome.CONNECTION] * 2  # nobody vouches for it
    stranger.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    trusting = BuiltinFetcher(limits, operations)
    assert [result.outcome for result in trusting.fetch_many(urls)] == [Outcome.OK, Outcome.CONNECTION]
    trusting.close()
    listener.shutdown()
