"""S3 servers on 127.0.0.1 for the tests, and a proxy that lets their answers go wrong."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "forge", "AWS_SECRET_ACCESS_KEY": "forge-secret", "AWS_REGION": "us-east-1"}
BUCKET = "corpora"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _started(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        try:
            _started(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """The light server of the default tests, in memory, with an empty bucket. Yields its endpoint."""
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with _running([sys.executable, "-c", code], port, folder / "moto.log") as endpoint:
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")).close()
        yield endpoint


def versitygw() -> str | None:
    """Path of the program (scripts/install-versitygw.sh), or None."""
    folders = [os.environ.get("GOBIN", "")]
    if go := shutil.which("go"):
        gopath = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip()
        folders.append(str(Path(gopath) / "bin"))
    return shutil.which("versitygw", path=os.pathsep.join([*folders, os.environ["PATH"]]))


@contextlib.contextmanager
def versity(folder: Path) -> Iterator[str]:
    """A real S3 server over a folder, with an empty bucket. Yields its endpoint."""
    program = versitygw()
    assert program is not None
    port = free_port()
    (folder / "data" / BUCKET).mkdir(parents=True)
    command = [program, "--port", f"127.0.0.1:{port}", "posix", str(folder / "data")]
    keys = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    with _running(command, port, folder / "versitygw.log", **keys) as endpoint:
        yield endpoint


Fault = Callable[[str, str, int], "int | float | str | None"]
"""(method, path, number of the request) → None: pass on. A status: answer that, pass nothing on. A float: pass on after
so many seconds. "drop": close the connection. "lost": pass on and close the connection before the answer. "cut": send
half of the answer's body."""


@contextlib.contextmanager
def faulty(endpoint: str, fault: Fault) -> Iterator[str]:
    """A proxy before `endpoint` that does to each request what `fault` says. Yields its endpoint."""
    target = endpoint.removeprefix("http://")
    lock = threading.Lock()
    count = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):
                super().handle_one_request()

        def forward(self) -> None:
            nonlocal count
            with lock:
                count += 1
                number = count
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            todo = fault(self.command, self.path, number)
            if todo == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if isinstance(todo, float):
                time.sleep(todo)
            elif isinstance(todo, int):
                self.answer(todo, {"Content-Type": "application/xml"}, b"<Error><Code>Injected</Code></Error>")
                return
            connection = http.client.HTTPConnection(target, timeout=60)
            # The Host header stays as it was signed.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
            connection.close()
            if todo == "lost":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            headers = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            self.answer(response.status, headers, data, cut=todo == "cut")

        def answer(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            if not (self.command == "HEAD" or status in (204, 304)):
                headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                headers["Content-Length"] = str(len(data))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
