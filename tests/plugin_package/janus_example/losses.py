"""A text file with the loss of each logged step."""

from __future__ import annotations

from typing import Any

from janus.train.loggers import Options as BaseOptions
from janus.train.loggers import Run


class Options(BaseOptions):
    """Options of `losses`."""

    digits: int = 3
    """Behind the point."""


class Logger:
    """Writes `losses.txt` in the run folder."""

    def __init__(self, run: Run, options: Options) -> None:
        self._file = (run.folder / "losses.txt").open("a")
        self._digits = options.digits

    def write(self, line: dict[str, Any]) -> None:
        """Held-out losses come as lines without "loss"."""
        if "loss" in line:
            print(f"{line['step']} {line['loss']['all']:.{self._digits}f}", file=self._file, flush=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
