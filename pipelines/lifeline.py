"""Processes that end with the process they work for.

A killed build (`kill -9`) cannot stop its worker processes, and Beam's notice only some 20 seconds later. Until then
they would go on writing shards beside those of the next build. So each of them waits for that process to end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass

_held: set[int] = set()


@dataclass(frozen=True)
class Lifeline:
    """Names the process that workers must not outlive."""

    pid: int
    host: str

    def hold(self) -> None:
        """From now on, end this process when that one ends; one that leads a process group ends the group.

        Does nothing in that process itself or on another machine.
        """
        if self.host != socket.gethostname() or self.pid == os.getpid() or self.pid in _held:
            return
        _held.add(self.pid)
        threading.Thread(target=_end_with, args=(self.pid,), name="lifeline", daemon=True).start()


def exit_with() -> Lifeline:
    """A lifeline to this process."""
    return Lifeline(os.getpid(), socket.gethostname())


def _end_with(pid: int) -> None:
    try:
        if hasattr(os, "pidfd_open"):
            # Readable as soon as the process ends: no polling, and no confusion with a later process of that number.
            select.select([os.pidfd_open(pid)], [], [])
        else:
            while True:
                os.kill(pid, 0)
                time.sleep(0.2)
    except ProcessLookupError:
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
