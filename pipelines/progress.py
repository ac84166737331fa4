"""Progress of a build on a terminal: one bar per step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipelines.engine import OnProgress, Progress


@contextlib.contextmanager
def bar() -> Iterator[OnProgress]:
    """Yield an `on_progress` callback that draws on stderr; without a terminal there it prints one line per step."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    from janus.cli import console

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console()) as bars:

        def show(progress: Progress) -> None:
            if progress.step not in tasks:
                tasks[progress.step] = bars.add_task(progress.step, total=progress.total_shards, note="")
            failed = f", {progress.failed} failed" if progress.failed else ""
            note = f"shards, {progress.rows} rows{failed}"
            bars.update(tasks[progress.step], completed=progress.shards, note=note)

        yield show
