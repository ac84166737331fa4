"""A Prefect API for flows that are started straight from a command line.

With PREFECT_API_URL set (a server of yours), runs go there and show up in its UI. Without it, a private server is
started for the life of the process: the same program as Prefect's own ephemeral mode, but it keeps its database in a
folder of ours instead of the home directory, writes to a log file instead of the screen, and ends with this process.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from flows import children
from janus.cli import UserError

STARTUP_S = 300.0
"""Longest time a server may take to answer: 5 s on an idle machine, 15 s to create the database at first, more under
load."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the screen is ours; the API still gets every log line
}
SERVER = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextlib.contextmanager
def prefect_api(home: Path) -> Iterator[Callable[[], None]]:
    """Set up the environment in which flows run. Enter before the first `import prefect` of the process.

    The private server starts in the background; call what the context yields before the first flow, to wait for it.

    Args:
        home: folder of the private server: its database, stored results and log.

    Raises:
        UserError: from the yielded function, if the server does not answer; the message names its log.
    """
    os.environ.update(QUIET)
    if os.environ.get("PREFECT_API_URL"):
        yield lambda: None
        return
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    home = home.resolve()
    os.environ.update(PREFECT_HOME=str(home), PREFECT_API_URL=url)
    log = home / "server.log"
    arguments = ["--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port)]
    server = children.start("uvicorn", [*arguments, "--log-level", "error", "--lifespan", "on"], log=log, env=SERVER)
    try:
        yield lambda: _wait(server, url, log)
    finally:
        _flush()
        children.stop(server)
        del os.environ["PREFECT_API_URL"]


def _flush() -> None:
    """Send what Prefect's background threads still hold, while there is a server to send it to."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=5)


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        time.sleep(0.1)
    what = "did not answer" if server.poll() is None else f"ended with exit code {server.returncode}"
    raise UserError(f"the private Prefect server {what}; its output is in {log}")
