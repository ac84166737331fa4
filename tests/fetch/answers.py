"""Answers of the hostile server, made by hand: a library would correct them."""

from __future__ import annotations

import functools
import gzip
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING

from tests.pictures import PICTURES

if TYPE_CHECKING:
    from tests.fetch.hostile import Hostile

PHOTO = PICTURES["photo.jpg"]
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


Behaviour = Callable[[Request], bool]
"""Answers a request; returns whether the connection stays open."""


def ok(body: bytes, *headers: str) -> Callable[[Request], bool]:
    return fixed("200 OK", body, *headers)


def fixed(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(answer(status, body, *headers, length=length))
        return length is None

    return behave


def redirect(location: str, status: str = "302 Found") -> Callable[[Request], bool]:
    return fixed(status, b"", f"Location: {location}")


def first_then_ok(status: str, *headers: str, body: bytes = PHOTO) -> Callable[[Request], bool]:
    def behave(request: Request) -> bool:
        request.send(answer(status, b"later", *headers) if request.number == 1 else answer("200 OK", body))
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
    request.sock.close()  # here: the server would say goodbye first
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


def padding(size: int) -> Behaviour:
    """A gzip file of a photo, with bytes behind it that are no member."""
    return ok(gzip.compress(PHOTO) + bytes(size), "Content-Encoding: gzip")


def reset_in_headers(request: Request) -> bool:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Le")
    time.sleep(0.05)
    return reset(request)


def reset_in_body(request: Request) -> bool:
    request.send(answer("200 OK", PHOTO[:500], length=len(PHOTO)))
    time.sleep(0.05)
    return reset(request)


def interim(*statuses: str) -> Behaviour:
    """A photo after interim answers."""
    before = "".join(f"HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n" for status in statuses)
    return raw(before.encode() + answer("200 OK", PHOTO))


def interim_for_ever(request: Request) -> bool:
    for _ in range(100_000):
        request.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    return False


def stalled_body(request: Request) -> bool:
    request.send(answer("200 OK", PHOTO[:100], length=len(PHOTO)))
    request.server.stopping.wait(30)
    return False
