"""Progress of a build, to whoever watches: the command line that started it, and a bar in Prefect's UI."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from pipelines.engine import OnProgress, Progress

ARTIFACT_EVERY_S = 2.0
"""Seconds between updates of the bar in the UI: each is a request."""

_LISTENERS: ContextVar[tuple[OnProgress, ...]] = ContextVar("listeners", default=())


@contextlib.contextmanager
def listening(listener: OnProgress) -> Iterator[None]:
    """Let `listener` hear of the progress of builds in this context. (A flow's parameters go to the API: not these.)"""
    token = _LISTENERS.set((*_LISTENERS.get(), listener))
    try:
        yield
    finally:
        _LISTENERS.reset(token)


def report(progress: Progress) -> None:
    """Tell all who listen."""
    for listener in _LISTENERS.get():
        listener(progress)


@contextlib.contextmanager
def shown_as_artifact(corpus: str, step: str) -> Iterator[None]:
    """Show the progress of one step as a bar in the UI, from when there is something to show."""
    from flows.artifacts import StepProgress

    bar: StepProgress | None = None
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal bar, last
        if bar is None:
            bar = StepProgress(corpus, step)
        finished = progress.shards == progress.total_shards
        if finished or time.monotonic() - last >= ARTIFACT_EVERY_S:
            last = time.monotonic()
            bar(progress.shards, progress.total_shards)

    with listening(show):
        yield
