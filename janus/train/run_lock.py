"""One process at a time trains in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it is not there.

    The lock is the kernel's (flock): it ends with the process, however that dies.

    Raises ValueError with one line if another process holds it.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(
                f"{folder}: {holder} is training in this run folder; wait for it, or choose another --out"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        except BaseException:
            # A run that did not come to its first step leaves no folder behind.
            if new and [path.name for path in folder.iterdir()] == [FILE]:
                (folder / FILE).unlink()
                folder.rmdir()
            raise
