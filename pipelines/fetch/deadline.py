"""A deadline that holds whatever the server does.

A socket's own timeout starts anew with every byte, so a server that sends one byte a second is never late. Here one
thread per fetcher shuts the socket down when the whole request is over its time; the read that hangs on it returns.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import threading
import time
from collections.abc import Iterator


class Guard:
    """The time limit of one request."""

    def __init__(self, end: float) -> None:
        self.end = end
        self.fired = False
        self._socket: socket.socket | None = None
        self._over = False
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """Seconds left, never less than a millisecond: socket timeouts of 0 mean something else."""
        return max(self.end - time.monotonic(), 0.001)

    def watch(self, sock: socket.socket) -> None:
        """From now on, `sock` is what to shut down."""
        with self._lock:
            self._socket = sock
            if self.fired:
                self._shut_down()

    def release(self) -> None:
        """The request is over; the socket may serve the next one."""
        with self._lock:
            self._socket = None
            self._over = True

    def fire(self) -> None:
        """The time is up."""
        with self._lock:
            if not self._over:
                self.fired = True
                self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                self._socket.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """Fires guards at their time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Guard]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._run, name="deadlines", daemon=True).start()

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[Guard]:
        """A guard for a request that may take so long."""
        guard = Guard(time.monotonic() + seconds)
        with self._changed:
            heapq.heappush(self._heap, (guard.end, next(self._numbers), guard))
            if self._heap[0][2] is guard:
                self._changed.notify()
        try:
            yield guard
        finally:
            guard.release()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                due = []
                while self._heap and self._heap[0][0] <= now:
                    due.append(heapq.heappop(self._heap)[2])
                if not due:
                    self._changed.wait(self._heap[0][0] - now if self._heap else None)
            for guard in due:
                guard.fire()
