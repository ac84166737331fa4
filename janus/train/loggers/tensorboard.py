"""TensorBoard files in the run folder's `tensorboard/`."""

from __future__ import annotations

from typing import Any

from janus.train.loggers import Options, Run, flatten, need


class Logger:
    """Writes each number as a scalar, nested names joined with `/`."""

    def __init__(self, run: Run, options: Options) -> None:
        need("tensorboard", logger="tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier start wrote of later steps is hidden.
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.start_step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Add one line's numbers at its step."""
        for name, value in flatten(line).items():
            if name != "step":
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()
