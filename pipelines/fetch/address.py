"""Where a request may go.

An address is resolved once, every answer is checked, and the connection is made to an address that was checked: a name
server that answers differently the second time (DNS rebinding) gains nothing. Redirects pass the same gate.

Refused are all addresses that are not public: private, loopback, link-local (cloud metadata), carrier-grade NAT,
multicast, reserved, and IPv6 forms that carry such an IPv4 address. The one exception are the host overrides of
`operations.resolve`, like curl's --resolve, which the person who starts the build writes.

Of IPv6, only what is handed out on the open internet (2000::/3) is taken, and forms that carry an IPv4 address only if
they are the public translations of a public one (mapped, 64:ff9b::/96, 6to4). A list of what to refuse would not do:
local translators (64:ff9b:1::/48), ::a.b.c.d, ::ffff:0:a.b.c.d and site-local addresses are "global" to `ipaddress`.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from pipelines.fetch.result import FetchProblem
from schemas.reasons import Outcome

PORTS = {"http": 80, "https": 443}
REMEMBER_S = 300.0
"""How long a resolved name is believed."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL = (ipaddress.IPv6Network("3fff::/20"), ipaddress.IPv6Network("2001::/23"))
"""Documentation, and IETF protocols (Teredo, ORCHID ...): what `ipaddress` says of them differs between releases of
Python 3.11."""


@dataclass(frozen=True)
class Target:
    """A parsed http(s) address."""

    url: str
    """Normalised: percent-encoded, lower-case host, no fragment."""
    scheme: str
    host: str
    port: int
    path: str
    """Path and query, as sent in the request line."""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what robots.txt and connections belong to."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """Host and, unless it is the usual one, port: the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> Target:
    """Take an address apart. Raises FetchProblem BAD_URL if it is not http(s)://host..., or has a password in it."""
    try:
        parts = parse_url(url.strip())
    except (LocationParseError, ValueError):
        raise FetchProblem(Outcome.BAD_URL) from None
    if parts.scheme not in PORTS or not parts.host or parts.auth is not None or parts.port == 0:
        raise FetchProblem(Outcome.BAD_URL)
    host = parts.host.strip("[]").rstrip(".")
    if not host or "%" in host:  # a zone id would name a network card of ours
        raise FetchProblem(Outcome.BAD_URL)
    port = parts.port or PORTS[parts.scheme]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query is not None else "")
    target = Target("", parts.scheme, host, port, path)
    return Target(f"{target.origin}{path}", target.scheme, host, port, path)


def redirected(target: Target, location: str) -> Target:
    """Where a redirect of `target` to `location`, which may be relative, leads. Raises FetchProblem BAD_URL."""
    try:
        return parse(urljoin(target.url, location))
    except ValueError:
        raise FetchProblem(Outcome.BAD_URL) from None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if ip not in _GLOBAL_UNICAST or any(ip in network for network in _SPECIAL):
            return False
    return ip.is_global and not ip.is_multicast


class Resolver:
    """Names to checked addresses."""

    def __init__(self, overrides: dict[str, str], look_up: Callable[..., Any] | None = None) -> None:
        """`look_up` stands in for socket.getaddrinfo where that is guarded."""
        self._look_up = look_up
        self._overrides = {name.lower(): _split(name, place) for name, place in overrides.items()}
        self._known: dict[tuple[str, int], tuple[float, list[tuple[str, int]]]] = {}
        self._lock = threading.Lock()
        # getaddrinfo cannot be interrupted; in threads of its own it cannot hold up a request beyond its deadline.
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")

    def places(self, target: Target, timeout: float) -> list[tuple[str, int]]:
        """Addresses and ports to connect to, best first.

        Raises FetchProblem: FORBIDDEN_ADDRESS if any address of the host is not public, CONNECTION, TIMEOUT.
        """
        override = self._overrides.get(f"{target.host}:{target.port}")
        if override is not None:
            return [override]
        key = target.host, target.port
        with self._lock:
            expires, places = self._known.get(key, (0.0, []))
        if time.monotonic() >= expires:
            places = self._resolve(key, timeout)
            with self._lock:
                self._known[key] = time.monotonic() + REMEMBER_S, places
        if not all(is_public(address) for address, _ in places):
            raise FetchProblem(Outcome.FORBIDDEN_ADDRESS)
        return places

    def _resolve(self, key: tuple[str, int], timeout: float) -> list[tuple[str, int]]:
        look_up: Callable[..., Any] = self._look_up or socket.getaddrinfo
        try:
            found = self._pool.submit(look_up, *key, type=socket.SOCK_STREAM).result(timeout)
        except FutureTimeout:
            raise FetchProblem(Outcome.TIMEOUT) from None
        except (OSError, UnicodeError):
            raise FetchProblem(Outcome.CONNECTION) from None
        return [(str(entry[4][0]).split("%")[0], key[1]) for entry in found]

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _split(name: str, place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if ":" not in name or not host or not port.isdigit():
        raise ValueError(f'resolve: expected "host:port" = "address:port", found {name!r} = {place!r}')
    return host.strip("[]"), int(port)
