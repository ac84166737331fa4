"""Progress of a build, for people: a bar per step on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from pipelines.engine.driver import OnProgress, Progress

LINE_EVERY_S = 2.0
"""Seconds between lines where there is no terminal."""
SPEED_OVER_S = 3600.0
"""Seconds of the past that the time left is computed from: a shard alone may take minutes."""


@contextlib.contextmanager
def shown() -> Iterator[OnProgress]:
    """Yield an `on_progress` callback that shows shards, rows, time passed and time left on standard error."""
    if sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines()


@contextlib.contextmanager
def _bars() -> Iterator[OnProgress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from janus.cli import console

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console(), speed_estimate_period=SPEED_OVER_S) as bars:

        def show(progress: Progress) -> None:
            if progress.step not in tasks:
                tasks[progress.step] = bars.add_task(progress.step, total=progress.total_shards, note="")
            bars.update(tasks[progress.step], completed=progress.shards, note=note(progress))

        yield show


def _lines() -> OnProgress:
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.shards == progress.total_shards or now - last >= LINE_EVERY_S:
            last = now
            print(
                f"{progress.step}: {progress.shards} of {progress.total_shards} {note(progress)}",
                file=sys.stderr,
                flush=True,
            )

    return show


def note(progress: Progress) -> str:
    """What stands after the number of shards."""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"shards, {progress.rows:,} rows{failed}"
