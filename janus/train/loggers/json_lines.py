"""`metrics.jsonl` in the run folder, one JSON object a line.

Flushed line by line, so a killed run loses nothing but a torn last line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from janus.train.loggers import Options, Run
from schemas.files import write_file

FILE = "metrics.jsonl"


class Logger:
    """Appends to the file."""

    def __init__(self, run: Run, options: Options) -> None:
        path = run.folder / FILE
        # Lines of steps that will be done again are taken out.
        kept = [json.dumps(line) + "\n" for line in read_metrics(path) if line["step"] <= run.start_step]
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
    """The lines of a metrics file, without a last one that was cut short; none if there is no file.

    Raises ValueError with one line that names the file and a damaged line before the last.
    """
    if not path.is_file():
        return []
    lines = []
    # Not splitlines(): a damaged line may hold other line ends. The last piece is torn, or empty.
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path}:{number}: damaged: not the metrics of a step; take the line out") from None
        lines.append(row)
    return lines
