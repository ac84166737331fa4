"""What a run shows people: a live bar on a terminal, one line per logged step elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """Progress for people: a live bar on a terminal, one line per logged step elsewhere."""

    def __init__(self, console: Console, *, steps: int, start_step: int) -> None:
        self._console, self._steps = console, steps
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar = self._progress.add_task("step", total=steps, completed=start_step)
            self._progress.start()

    def step(self, step: int) -> None:
        """So many steps are done."""
        if self._progress:
            self._progress.update(self._bar, completed=step)

    def line(self, line: dict[str, Any]) -> None:
        """Show a logged step."""
        text = summary(line)
        if self._progress:
            self._progress.update(self._bar, description=text)
        else:
            left = line["speed"]["seconds_left"]
            self._console.print(f"step {line['step']}/{self._steps} {text} left {_duration(left)}")

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress:
            self._progress.stop()


SHORT = {"all": "loss", "understanding": "und", "generation": "gen"}


def summary(line: dict[str, Any]) -> str:
    """A logged step on one line: losses with each task's share of labels, speed."""
    tokens = line["tokens"]
    total = sum(tokens.values())
    losses = []
    for task, loss in line["loss"].items():
        share = f" ({tokens[task] / total:.0%})" if task in tokens else ""
        losses.append(f"{SHORT.get(task, task)} {loss:.3f}{share}")
    speed = line["speed"]
    mfu = f" MFU {speed['mfu']:.1%}" if "mfu" in speed else ""
    return f"{' '.join(losses)} {speed['tokens_per_s']:,.0f} tok/s{mfu}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
