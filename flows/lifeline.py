"""Child processes that never outlive their parent.

`python -m flows.lifeline MODULE ARGS...` runs a module like `python -m MODULE ARGS...`, and ends at once when its
standard input closes. The parent holds the other end of that pipe, and the operating system closes it when the parent
dies, `kill -9` included. So a killed demo leaves no trainer behind that writes into a folder the next demo uses, and
no server that keeps a port.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


def start(
    module: str, arguments: Sequence[str] = (), *, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments`, tied to this process; what it prints is appended to `log`.

    Unbuffered: whoever reads the log sees how far the child is, and its last words in the order they were said.

    `stop` ends it early. The child is its own process group, so that Ctrl-C reaches the parent alone, which decides.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "flows.lifeline", module, *arguments],
            stdin=subprocess.PIPE,
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
    if process.stdin is not None:
        process.stdin.close()


def _watch(stdin: int) -> None:
    """Block until the parent is gone, then take the process group (workers of the module included) down."""
    while os.read(stdin, 1024):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run the module named on the command line under a watching thread."""
    module, *arguments = sys.argv[1:]
    stdin = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # the module and its children must not read or inherit the lifeline as input
    threading.Thread(target=_watch, args=(stdin,), daemon=True).start()
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
