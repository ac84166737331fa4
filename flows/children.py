"""Child processes that end with the process that started them.

`python -m flows.children PID MODULE ARGS...` runs a module like `python -m MODULE ARGS...`, and ends it, with all that
it started, when process PID ends, `kill -9` included (`pipelines.lifeline`). So a killed demo leaves no trainer behind
that writes into a folder the next demo uses, and no server that keeps a port.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.lifeline import Lifeline


def start(
    module: str, arguments: Sequence[str] = (), *, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments`, tied to this process; what it prints is appended to `log`.

    Unbuffered, so that the log shows how far the child is.

    `stop` ends it early. The child is its own process group, so that Ctrl-C reaches the parent alone.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "flows.children", str(os.getpid()), module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )


def stop(process: subprocess.Popen[bytes], patience_s: float = 5.0) -> None:
    """End a child and all that it started: SIGTERM, then SIGKILL after `patience_s` seconds."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Run the module named on the command line."""
    parent, module, *arguments = sys.argv[1:]
    Lifeline(int(parent), socket.gethostname()).hold()
    if os.getppid() != int(parent):
        sys.exit(1)  # it was gone before we looked
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
