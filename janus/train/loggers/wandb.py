"""Weights & Biases: online, or offline into the run folder for a later `wandb sync`."""

from __future__ import annotations

from typing import Any, Literal

from janus.train.loggers import Options as BaseOptions
from janus.train.loggers import Run, flatten, need
from schemas.digest import digest


class Options(BaseOptions):
    """Where the run appears."""

    project: str = "janus-forge"
    """Project on W&B."""
    entity: str | None = None
    """User or team; none for the default of the account."""
    mode: Literal["online", "offline"] = "online"
    """offline: write `RUN/wandb/offline-run-*` and send nothing."""


class Logger:
    """Logs each line to one W&B run, which a continued run continues."""

    def __init__(self, run: Run, options: Options) -> None:
        wandb = need("wandb", logger="wandb")
        # The same folder is the same run. W&B has no way to take steps back: those done again appear twice, so the
        # curves are drawn over the logged step and the later value is the valid one.
        self._run = wandb.init(
            project=options.project,
            entity=options.entity,
            mode=options.mode,
            name=run.folder.name,
            id=digest(str(run.folder.resolve()))[:16],
            resume="allow",
            dir=str(run.folder),
            config=run.recipe,
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, line: dict[str, Any]) -> None:
        """Send one line's numbers."""
        self._run.log(flatten(line))

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()
