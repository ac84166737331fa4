"""A small HTTP server on 127.0.0.1 for folders that stand for the outside world (the images of `shapes`).

It speaks real HTTP: 200 with the file's bytes, 404 for what is not there (the dead links of the built-in world).
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder, nothing else: no directory listings, no log lines on the screen."""

    protocol_version = "HTTP/1.1"  # keep-alive

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` while the context lasts; yields "127.0.0.1:PORT" with a free port.

    Raises FileNotFoundError if there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder to serve")
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serve_all(folders: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Serve several folders by the "host:port" each stands for; yields what `Operations.resolve` wants.

    E.g. {"shapes.test:80": "runs/demo/world/http"} yields {"shapes.test:80": "127.0.0.1:41873"}.
    """
    with contextlib.ExitStack() as stack:
        yield {host: stack.enter_context(serve(Path(folder))) for host, folder in folders.items()}
