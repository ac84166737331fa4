"""What the demo shows while it runs: a line per step with its time, live where there is a terminal."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAIL_BYTES = 4096


def last_line(log: Path) -> str:
    """The last line in a log that says anything, without terminal colours; "" if there is none yet."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in _ESCAPES.sub("", text).replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def duration(seconds: float) -> str:
    """Seconds for people: "4.2 s", "1 min 05 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


class Screen:
    """The list of steps. On a terminal it is redrawn in place; elsewhere each step prints one line when it ends."""

    def __init__(self, console: Console, titles: Sequence[str]) -> None:
        self._console = console
        self._titles = list(titles)
        self._done: list[tuple[str, float, bool]] = []  # detail, seconds, reused
        self._log: Path | None = None
        self._since = 0.0
        self._spinner = Spinner("dots", style="cyan")

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the list while the context lasts."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self, console=self._console, refresh_per_second=8, transient=False):
            yield

    def begin(self, log: Path) -> None:
        """The next step starts; `log` is where its output goes."""
        self._log, self._since = log, time.monotonic()

    def end(self, detail: str, seconds: float, *, reused: bool) -> None:
        """The step has ended."""
        title = self._titles[len(self._done)]
        self._done.append((detail, seconds, reused))
        self._log = None
        if not self._console.is_terminal:
            time_taken = "reused" if reused else duration(seconds)
            self._console.print(f"{title:<24} {time_taken:>12}  {detail}", highlight=False)

    def __rich__(self) -> RenderableType:
        """The list as it stands."""
        table = Table.grid(padding=(0, 2))
        table.add_column(width=1)
        table.add_column(min_width=22, no_wrap=True)
        table.add_column(justify="right", min_width=10, no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True)
        for number, title in enumerate(self._titles):
            if number < len(self._done):
                detail, seconds, reused = self._done[number]
                took = Text("reused", style="dim") if reused else Text(duration(seconds))
                table.add_row(Text("✓", style="green"), title, took, Text(detail, style="dim"))
            elif number == len(self._done) and self._log is not None:
                took = Text(duration(time.monotonic() - self._since), style="cyan")
                table.add_row(self._spinner, Text(title, style="bold"), took, Text(last_line(self._log), style="dim"))
            else:
                table.add_row(Text("·", style="dim"), Text(title, style="dim"), "", "")
        return Group(table)
