"""Progress of a build, to whoever watches: the command line, and Prefect's artifacts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Called with (step, shards done, shards in all)."""

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear of the progress of every build in this context. (A flow's parameters go to the API, so it is not one.)"""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Listener:
    """Whoever listens here, or one who does not care."""
    return _LISTENER.get() or (lambda step, done, total: None)


def at_most_every(seconds: float, call: Listener) -> Listener:
    """`call`, with what comes too soon after the last call left out; the end of a step always gets through."""
    last = -seconds

    def limited(step: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= seconds:
            last = now
            call(step, done, total)

    return limited
