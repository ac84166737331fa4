"""Trackio: a local dashboard (`trackio show`), or a Hugging Face Space."""

from __future__ import annotations

from typing import Any

from janus.train.loggers import Options as BaseOptions
from janus.train.loggers import Run, flatten, need


class Options(BaseOptions):
    """Where the run appears."""

    project: str = "janus-forge"
    """Project of the dashboard."""
    space: str | None = None
    """Hugging Face Space, "user/name"; none for the local dashboard, which sends nothing."""


class Logger:
    """Logs each line to one Trackio run, which a continued run continues."""

    def __init__(self, run: Run, options: Options) -> None:
        trackio = need("trackio", logger="trackio")
        # Of a step done again Trackio keeps both values.
        self._run = trackio.init(
            project=options.project,
            name=run.folder.name,
            space_id=options.space,
            config=run.recipe,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, line: dict[str, Any]) -> None:
        """Log one line's numbers at its step."""
        self._run.log({k: v for k, v in flatten(line).items() if k != "step"}, step=line["step"])

    def close(self) -> None:
        """Wait until all is written."""
        self._run.finish()
