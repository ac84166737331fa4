"""A server on 127.0.0.1 that misbehaves in every way the download step must survive.

Each path is one behaviour; each virtual host one site policy. Bytes are written by hand: a library would correct them.
`Hostile.resolve` gives the host overrides that lead `*.test` here, the only way a fetcher may reach a private address.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

from tests.pictures import PICTURES, bomb

PHOTO = PICTURES["photo.jpg"]
HOSTS = (
    "site.test",
    "other.test",
    "deny.test",
    "broken-robots.test",
    "limited-robots.test",
    "busy-robots.test",
    "patient-robots.test",
    "closed-robots.test",
    "tdm.test",
    "moved-robots.test",
    "forbidden-robots.test",
)
MEGABYTE = 1 << 20
HUGE = 200 * MEGABYTE


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A whole HTTP/1.1 answer; `length` lies about the body."""
    size = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {size}", "", ""]).encode("latin-1") + body


class Request:
    """What a behaviour gets to work with."""

    def __init__(self, server: Hostile, sock: socket.socket, path: str, host: str, headers: dict[str, str]) -> None:
        self.server, self.sock, self.path, self.host, self.headers = server, sock, path, host, headers
        with server.lock:
            server.hits[host, path] += 1
            server.order.append((host, path))
            self.number = server.hits[host, path]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def trickle(self, data: bytes, pause: float) -> None:
        """One byte at a time, for as long as somebody listens."""
        for value in data:
            self.send(bytes([value]))
            if self.server.stopping.wait(pause):
                return

    def stream(self, total: int, wrap: Callable[[bytes], bytes] = bytes) -> None:
        """`total` bytes of JPEG and zeros, never held in memory."""
        self.send(wrap(PHOTO[:1000]))
        for _ in range(total // MEGABYTE):
            self.send(wrap(bytes(MEGABYTE)))


def ok(body: bytes, *headers: str) -> Callable[[Request], bool]:
    return fixed("200 OK", body, *headers)


def fixed(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(answer(status, body, *headers, length=length))
        return length is None

    return behave


def redirect(location: str, status: str = "302 Found") -> Callable[[Request], bool]:
    return fixed(status, b"", f"Location: {location}")


def first_then_ok(status: str, *headers: str) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(answer(status, b"later", *headers) if request.number == 1 else answer("200 OK", PHOTO))
        return True

    return behave


def busy_then_absent(*headers: str) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(answer("503 Busy", b"", *headers) if request.number == 1 else answer("404 Not Found"))
        return True

    return behave


def slow(request: Request) -> bool:
    request.server.stopping.wait(30)
    return False


def drip_body(request: Request) -> bool:
    request.send(answer("200 OK", b"", length=len(PHOTO)))
    request.trickle(PHOTO, 0.1)
    return False


def drip_headers(request: Request) -> bool:
    request.trickle(answer("200 OK", PHOTO, *[f"X-Padding-{n}: aaaaaaaaaaaaaaaa" for n in range(50)]), 0.1)
    return False


def truncated(request: Request) -> bool:
    request.send(answer("200 OK", PHOTO[: len(PHOTO) // 2], length=len(PHOTO)))
    return False


def no_length(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\n\r\n" + PHOTO)
    return False


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(request: Request) -> bool:
    request.send(CHUNKED + chunk(PHOTO[:100]) + chunk(PHOTO[100:]) + b"0\r\n\r\n")
    return True


def chunked_truncated(request: Request) -> bool:
    request.send(CHUNKED + chunk(PHOTO[:100]) + b"1000\r\n" + PHOTO[100:200])
    return False


def chunked_endless(request: Request) -> bool:
    request.send(CHUNKED)
    request.stream(HUGE, chunk)
    return False


def padded(request: Request) -> bool:
    """A photo of 8 MiB: decoders stop at its end."""
    request.send(answer("200 OK", b"", length=8 * MEGABYTE))
    request.send(PHOTO + bytes(MEGABYTE - len(PHOTO)))
    for _ in range(7):
        request.send(bytes(MEGABYTE))
    return True


def huge_body(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n")
    request.stream(HUGE)
    return False


@functools.cache
def packed_zeros() -> bytes:
    return gzip.compress(bytes(HUGE // 4), compresslevel=1)


def gzip_bomb(request: Request) -> bool:
    request.send(answer("200 OK", packed_zeros(), "Content-Encoding: gzip"))
    return True


def reset(request: Request) -> bool:
    request.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return False


def silent_close(request: Request) -> bool:
    return False


def raw(data: bytes) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(data)
        return False

    return behave


def continues(request: Request) -> bool:
    request.send(b"HTTP/1.1 100 Continue\r\n\r\n" + answer("200 OK", PHOTO))
    return True


def counted(request: Request) -> bool:
    """Takes a moment, and notes how many do so at once."""
    with request.server.lock:
        request.server.busy += 1
        request.server.busiest = max(request.server.busiest, request.server.busy)
    time.sleep(0.05)
    with request.server.lock:
        request.server.busy -= 1
    request.send(answer("200 OK", PHOTO))
    return True


def retry_date(request: Request) -> bool:
    if request.number == 1:
        request.send(answer("503 Busy", b"", f"Retry-After: {formatdate(time.time() + 1, usegmt=True)}"))
    else:
        request.send(answer("200 OK", PHOTO))
    return True


ROBOTS_TAGS: dict[str, tuple[str, ...]] = {
    "noai": ("noai",),
    "noimageai": ("noimageai",),
    "noml": ("noml",),
    "none": ("none",),
    "noindex": ("noindex",),
    "noimageindex": ("NoImageIndex",),
    "list": ("nofollow, noai",),
    "two-headers": ("nofollow", "noai"),
    "after-date": ("unavailable_after: 25 Jun 2100 15:00:00 GMT, noai",),
    "after-weekday-date": ("unavailable_after: Friday, 25 Jun 2100 15:00:00 GMT, noai",),
    "after-value": ("max-image-preview: large, noai",),
    "our-name": ("janus-forge: noai",),
    "star": ("*: noindex",),
    "other-then-ours": ("otherbot: noindex, nofollow, janus-forge: noai",),
    "expired": ("unavailable_after: 25 Jun 2010 15:00:00 GMT",),
}
"""X-Robots-Tag headers that reserve an image."""

ROBOTS_TAGS_ALLOWING: dict[str, tuple[str, ...]] = {
    "all": ("all",),
    "other-bot": ("otherbot: noai, noindex",),
    "nofollow": ("nofollow, nosnippet, noarchive",),
    "future": ("unavailable_after: 25 Jun 2100 15:00:00 GMT",),
    "preview": ("max-image-preview: none",),
    "nonsense": ("::,,:;noaix",),
}
"""X-Robots-Tag headers that do not."""

ROUTES: dict[str, Callable[[Request], bool]] = {
    **{f"/{name}": ok(data) for name, data in PICTURES.items()},
    "/400": fixed("400 Bad Request"),
    "/401": fixed("401 Unauthorized"),
    "/403": fixed("403 Forbidden"),
    "/404": fixed("404 Not Found"),
    "/410": fixed("410 Gone"),
    "/429-then-200": first_then_ok("429 Too Many", "Retry-After: 1"),
    "/503-for-5-seconds": first_then_ok("503 Busy", "Retry-After: 5"),
    "/429-for-an-hour": fixed("429 Too Many", b"", "Retry-After: 3600"),
    "/429-always": fixed("429 Too Many"),
    "/500": fixed("500 Oops"),
    "/503-then-200": first_then_ok("503 Busy"),
    "/503-retry-date": retry_date,
    "/408-then-200": first_then_ok("408 Request Timeout"),
    "/304": fixed("304 Not Modified"),
    "/204": fixed("204 No Content"),
    "/redirect": redirect("/photo.jpg"),
    "/redirect-301-host": redirect("http://other.test/photo.jpg", "301 Moved"),
    "/redirect-308-relative": redirect("photo.webp", "308 Permanent"),
    "/redirect-utf8": redirect("/photo.jpg?é".encode().decode("latin-1")),
    "/redirect-loop": redirect("/redirect-loop-2"),
    "/redirect-loop-2": redirect("/redirect-loop"),
    **{f"/redirect-chain-{n}": redirect(f"/redirect-chain-{n - 1}") for n in range(1, 20)},
    "/redirect-chain-0": redirect("/photo.jpg"),
    "/redirect-metadata": redirect("http://169.254.169.254/latest/meta-data/"),
    "/redirect-private": redirect("http://10.0.0.1/a.jpg"),
    "/redirect-loopback": redirect("http://127.0.0.1:22/"),
    "/redirect-mapped": redirect("http://[::ffff:127.0.0.1]/a.jpg"),
    "/redirect-number": redirect("http://2130706433/a.jpg"),
    "/redirect-ftp": redirect("ftp://site.test/a.jpg"),
    "/redirect-file": redirect("file:///etc/passwd"),
    "/redirect-broken": redirect("http://[oops/a.jpg"),
    "/redirect-nowhere": fixed("302 Found"),
    "/redirect-to-denied": redirect("http://deny.test/private/photo.jpg"),
    "/slow": slow,
    "/drip-body": drip_body,
    "/drip-headers": drip_headers,
    "/truncated": truncated,
    "/length-too-small": fixed("200 OK", PHOTO, length=len(PHOTO) // 2),
    "/length-huge": fixed("200 OK", PHOTO, length=HUGE),
    "/length-nonsense": raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + PHOTO),
    "/no-length": no_length,
    "/chunked": chunked,
    "/chunked-truncated": chunked_truncated,
    "/chunked-endless": chunked_endless,
    "/padded.jpg": padded,
    "/huge-body": huge_body,
    "/empty": ok(b""),
    "/html": ok(b"<!doctype html><title>Sign in</title>", "Content-Type: image/jpeg"),
    "/svg": ok(b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "/bomb.png": ok(bomb(20_000, 20_000)),
    "/gzip.jpg": ok(gzip.compress(PHOTO), "Content-Encoding: gzip"),
    "/gzip-broken": ok(b"\x1f\x8b not gzip", "Content-Encoding: gzip"),
    "/gzip-bomb": gzip_bomb,
    "/brotli": ok(PHOTO, "Content-Encoding: br"),
    "/reset": reset,
    "/silent-close": silent_close,
    "/garbage": raw(b"\0\1\2 nothing that is HTTP\r\n\r\n"),
    "/many-headers": raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n"),
    "/long-header": raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * MEGABYTE + b"\r\n\r\n"),
    "/continue": continues,
    "/counted": counted,
    "/tdm-header": ok(PHOTO, "tdm-reservation: 1"),
    "/tdm-header-0": ok(PHOTO, "tdm-reservation: 0"),
    "/private/photo.jpg": ok(PHOTO),
    "/art/photo.jpg": ok(PHOTO),
    "/art/free/photo.jpg": ok(PHOTO),
    **{f"/tag/{name}": ok(PHOTO, *(f"X-Robots-Tag: {tag}" for tag in tags)) for name, tags in ROBOTS_TAGS.items()},
    **{
        f"/tag-allowing/{name}": ok(PHOTO, *(f"X-Robots-Tag: {tag}" for tag in tags))
        for name, tags in ROBOTS_TAGS_ALLOWING.items()
    },
}

ROBOTS_TXT = b"User-agent: janus-forge\nDisallow: /private/\nAllow: /private/press/\n"
POLICIES: dict[tuple[str, str], Callable[[Request], bool]] = {
    ("deny.test", "/robots.txt"): ok(ROBOTS_TXT),
    ("broken-robots.test", "/robots.txt"): fixed("503 Busy"),
    ("limited-robots.test", "/robots.txt"): first_then_ok("429 Too Many"),
    ("busy-robots.test", "/robots.txt"): busy_then_absent(),
    ("patient-robots.test", "/robots.txt"): busy_then_absent("Retry-After: 2"),
    ("closed-robots.test", "/robots.txt"): busy_then_absent("Retry-After: 3600"),
    ("moved-robots.test", "/robots.txt"): redirect("http://deny.test/robots.txt"),
    ("forbidden-robots.test", "/robots.txt"): fixed("403 Forbidden"),
    ("tdm.test", "/.well-known/tdmrep.json"): ok(
        b'[{"location": "/art/free/*", "tdm-reservation": 0}, {"location": "/art/*", "tdm-reservation": 1}]'
    ),
}


class Hostile(socketserver.ThreadingTCPServer):
    """The server. `hits` counts requests by (host, path), `order` has them as they came."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hits: Counter[tuple[str, str]] = Counter()
        self.order: list[tuple[str, str]] = []
        self.connections = 0
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def resolve(self) -> dict[str, str]:
        return {f"{host}:80": self.place for host in HOSTS}

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    server: Hostile

    def handle(self) -> None:
        with self.server.lock:
            self.server.connections += 1
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.request.recv(65536)
            if not more:
                return False
            data += more
        first, *lines = data.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        path = first.split(" ")[1].partition("?")[0]
        request = Request(self.server, self.request, path, headers.get("host", ""), headers)
        return POLICIES.get((request.host, path), ROUTES.get(path, fixed("404 Not Found")))(request)
