"""A server on 127.0.0.1 that misbehaves in every way the download step must survive.

Each path is one behaviour (tests/fetch/behaviours.py), each virtual host one site policy (tests/fetch/sites.py).
`Hostile.resolve` gives the host overrides that lead `*.test` here, the only way a fetcher may reach a private address.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections import Counter

from tests.fetch.answers import Request, fixed
from tests.fetch.behaviours import HOSTS, ROUTES
from tests.fetch.sites import POLICIES


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
