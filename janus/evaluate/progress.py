"""How far an evaluation is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Console

EVERY_S = 2.0
"""Least time between two lines."""


@contextlib.contextmanager
def shown(console: Console, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to call with (part, done, total)."""
    if console.is_terminal:
        with _bars(console, title) as show:
            yield show
    else:
        yield _Lines(console, title)


@contextlib.contextmanager
def _bars(console: Console, title: str) -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:

        def show(part: str, done: int, total: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(f"{title}, {part}", total=total)
            bars.update(tasks[part], completed=done)

        yield show


class _Lines:
    """A line at most every EVERY_S seconds, and at the start and end of a part."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._part, self._begun, self._done_before, self._last = "", 0.0, 0, 0.0

    def __call__(self, part: str, done: int, total: int) -> None:
        now = time.monotonic()
        if part != self._part:
            self._part, self._begun, self._done_before, self._last = part, now, done, 0.0
        if done < total and now - self._last < EVERY_S:
            return
        self._last = now
        new = done - self._done_before
        left = f", {_clock((now - self._begun) / new * (total - done))} left" if new and done < total else ""
        self._console.print(f"{self._title}, {part}: {done} of {total}{left}")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
