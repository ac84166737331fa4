"""One request to one checked address, within a deadline and a byte cap. Follows nothing, retries nothing.

Proxies and cookies are not used, certificates are verified. Bodies are asked for as they are (`identity`); a server
that compresses anyway is unpacked only up to the byte cap (pipelines/fetch/unpack.py).
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any

from urllib3.util import wait_for_read

from pipelines.fetch.address import Resolver, Target
from pipelines.fetch.deadline import Guard, Watchdog
from pipelines.fetch.result import FetchProblem
from pipelines.fetch.unpack import Unpack, unpacker
from schemas.reasons import Outcome

BLOCK = 1 << 16
CONNECT_S = 10.0
"""Longest wait for one address of a host to accept."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
INFORMATIONAL = 100
"""Interim answers (1xx) that may come before the real one."""


@dataclass(frozen=True)
class Reply:
    """An answer. `body` is read only for 2xx, and is empty for others."""

    status: int
    headers: Message
    body: bytes
    whole: bool = True
    """False for a body that was cut at `max_bytes`."""

    @property
    def location(self) -> str | None:
        """Where a redirect points to, None if this is none."""
        location = self.headers.get("Location") if self.status in REDIRECTS else None
        if location is not None:
            with contextlib.suppress(UnicodeError):  # servers send UTF-8, http.client reads Latin-1
                return location.encode("latin-1").decode()
        return location


class Transport:
    """Connections, kept alive per origin."""

    def __init__(self, resolver: Resolver, user_agent: str, *, keep: int) -> None:
        self._resolver = resolver
        self._user_agent = user_agent
        self._keep = keep
        self._idle: list[tuple[str, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._watchdog = Watchdog()
        self._tls = ssl.create_default_context()

    def get(
        self,
        target: Target,
        *,
        seconds: float,
        max_bytes: int,
        check: Callable[[int, Message], None] | None = None,
        cut: bool = False,
    ) -> Reply:
        """GET `target`. `check` sees status and headers of a success or a redirect before the body is read, and
        may raise FetchProblem. With `cut`, a body over `max_bytes` is not refused: its start is the answer.

        Raises FetchProblem: FORBIDDEN_ADDRESS, CONNECTION, TIMEOUT, TRUNCATED, TOO_LARGE, NOT_AN_IMAGE (an encoding
        that was not asked for), BAD_IMAGE (broken gzip).
        """
        with self._watchdog.limit(seconds) as guard, _named_problems(guard):
            kept = self._take(target.origin)
            if kept is not None:
                try:
                    return self._exchange(kept, target, guard, max_bytes, check, cut)
                except ConnectionError:
                    if guard.fired:
                        raise
                    # The server has closed the idle connection meanwhile, which is its right: ask on a new one.
            return self._exchange(self._connect(target, guard), target, guard, max_bytes, check, cut)

    def close(self) -> None:
        """Close all connections."""
        self._watchdog.close()
        with self._lock:
            for _, connection in self._idle:
                connection.close()
            self._idle.clear()

    def _connect(self, target: Target, guard: Guard) -> http.client.HTTPConnection:
        places = self._resolver.places(target, guard.left)
        for number, place in enumerate(places, start=1):
            try:
                raw = _connected(place, min(CONNECT_S, guard.left))
                break
            except OSError:
                if number == len(places) or guard.left < 0.01:
                    raise
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.response_class = Response
        connection.sock = raw
        if target.scheme == "https":
            try:
                # The handshake comes after the guard knows the socket: it can be dripped like anything else.
                secure = self._tls.wrap_socket(raw, server_hostname=target.host, do_handshake_on_connect=False)
                connection.sock = secure
                guard.watch(secure)
                secure.settimeout(guard.left)
                secure.do_handshake()
            except BaseException:
                connection.close()
                raise
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        target: Target,
        guard: Guard,
        max_bytes: int,
        check: Callable[[int, Message], None] | None,
        cut: bool,
    ) -> Reply:
        headers = {
            "Host": target.netloc,
            "User-Agent": self._user_agent,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
        }
        try:
            guard.watch(connection.sock)
            connection.sock.settimeout(guard.left)
            connection.request("GET", target.path, headers=headers)
            response = connection.getresponse()
            reply = _read(response, max_bytes, check, cut)
            guard.release()
            if guard.fired:
                raise TimeoutError
        except BaseException:
            connection.close()
            raise
        self._put_back(target.origin, connection, response)
        return reply

    def _take(self, origin: str) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                place = next((i for i, (name, _) in enumerate(self._idle) if name == origin), None)
                if place is None:
                    return None
                connection = self._idle.pop(place)[1]
            if connection.sock is not None and not wait_for_read(connection.sock, timeout=0.0):
                return connection
            connection.close()  # readable while idle: the server has closed it, or talks out of turn

    def _put_back(
        self, origin: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        if response.will_close or not response.isclosed() or connection.sock is None:
            connection.close()
            return
        with self._lock:
            self._idle.append((origin, connection))
            oldest = self._idle.pop(0)[1] if len(self._idle) > self._keep else None
        if oldest is not None:
            oldest.close()


def _connected(place: tuple[str, int], seconds: float) -> socket.socket:
    """A connection to an IP address. Nothing is looked up on the way, so it goes to what was checked."""
    sock = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(seconds)
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _named_problems(guard: Guard) -> Iterator[None]:
    """Whatever a socket raises, as one of our outcomes."""
    try:
        yield
    except FetchProblem as problem:
        # A body cut off by the guard looks like one cut off by the server.
        if guard.fired:
            raise FetchProblem(Outcome.TIMEOUT, status=problem.status) from None
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = guard.fired or isinstance(error, TimeoutError)
        raise FetchProblem(Outcome.TIMEOUT if late else Outcome.CONNECTION) from error


class _WholeLines:
    """The file that headers are read from, in which the end of the connection is an error and not the last line."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readline(self, size: int) -> bytes:
        line = self._file.readline(size)
        if not line.endswith(b"\n") and len(line) < size:
            raise ConnectionResetError("connection closed inside the headers")
        return line

    def close(self) -> None:
        self._file.close()


class Response(http.client.HTTPResponse):
    """An answer whose headers are whole, with any interim answers before it skipped.

    http.client takes headers that break off for an answer without a body, and skips only 100 (not 102 and 103).
    """

    def begin(self) -> None:
        """Read status and headers."""
        file, self.fp = self.fp, _WholeLines(self.fp)  # type: ignore[assignment]
        try:
            super().begin()
            for _ in range(INFORMATIONAL):
                if not 100 <= self.status < 200 or self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                    return
                self.headers = self.msg = None  # type: ignore[assignment]
                super().begin()
            raise http.client.BadStatusLine(f"more than {INFORMATIONAL} interim answers")
        finally:
            if self.fp is not None:
                self.fp = file


def _read(
    response: http.client.HTTPResponse, max_bytes: int, check: Callable[[int, Message], None] | None, cut: bool
) -> Reply:
    """The answer's body, read piece by piece and given up as soon as it is too much."""
    status = response.status
    if check is not None and (200 <= status < 300 or status in REDIRECTS):
        check(status, response.headers)
    if not 200 <= status < 300:
        return Reply(status, response.headers, b"")
    if response.length is not None and response.length > max_bytes and not cut:
        raise FetchProblem(Outcome.TOO_LARGE, status=status)
    unpack: Unpack | None = unpacker(response.headers, status)
    body = bytearray()
    received = 0
    try:
        while block := response.read1(BLOCK):
            received += len(block)
            body += unpack.feed(block, max_bytes + 1 - len(body)) if unpack else block
            if max(received, len(body)) > max_bytes:
                if cut:
                    return Reply(status, response.headers, bytes(body[:max_bytes]), whole=False)
                raise FetchProblem(Outcome.TOO_LARGE, status=status)
        if unpack:
            unpack.end()
    except http.client.IncompleteRead:
        raise FetchProblem(Outcome.TRUNCATED, status=status) from None
    except zlib.error:
        raise FetchProblem(Outcome.BAD_IMAGE, status=status) from None
    if response.length:  # bytes that were promised and did not come
        raise FetchProblem(Outcome.TRUNCATED, status=status)
    response.close()
    return Reply(status, response.headers, bytes(body))
