"""What a run writes down: one JSON line per logged step, TensorBoard on request, and a line or bar for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from schemas.files import write_file

FILE = "metrics.jsonl"


class MetricsFile:
    """`metrics.jsonl` of a run folder: flushed line by line, so a killed run loses nothing but a torn last line."""

    def __init__(self, folder: Path, *, start_step: int) -> None:
        """Continue after `start_step`: later lines, of steps that will be done again, are taken out."""
        path = folder / FILE
        kept = [json.dumps(line) + "\n" for line in read_metrics(path) if line["step"] <= start_step]
        write_file(path, "".join(kept))
        self._file = path.open("a")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, without a last one that was cut short; none if there is no file."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class TensorBoard:
    """The numbers of each line as TensorBoard scalars, nested names joined with `/`."""

    def __init__(self, folder: Path, *, start_step: int) -> None:
        """Continue after `start_step`: what an earlier start wrote of later steps is hidden."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "--watch.tensorboard: tensorboard is not installed; pip install 'janus-forge[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Add one line's numbers at its step."""
        for name, value in flatten(line).items():
            if name != "step":
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def flatten(line: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers by `outer/inner` name."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat


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


SHORT = {"all": "loss", "understanding": "und", "text": "text", "generation": "gen"}


def summary(line: dict[str, Any]) -> str:
    """A logged step on one line: losses with each task's share of labels, speed."""
    tokens = line["tokens"]
    total = sum(tokens.values())
    losses = []
    for task, loss in line["loss"].items():
        share = f" ({tokens[task] / total:.0%})" if task in tokens else ""
        losses.append(f"{SHORT[task]} {loss:.3f}{share}")
    speed = line["speed"]
    mfu = f" MFU {speed['mfu']:.1%}" if "mfu" in speed else ""
    return f"{' '.join(losses)} {speed['tokens_per_s']:,.0f} tok/s{mfu}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
