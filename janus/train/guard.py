"""What may end a run early: a loss that is no number, and a signal."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from torch import nn

from janus.packed import TASK_IDS, PackedBatch


class NonFiniteError(ValueError):
    """A loss or gradient is not a finite number. The run stops; nothing is skipped or replaced (design D10)."""


def check_finite(
    step: int,
    sums: Sequence[Sequence[float]],
    norms: dict[str, float],
    documents: Sequence[Sequence[tuple[str, bytes]]],
) -> None:
    """Raise NonFiniteError, naming task, step and sample uids, unless all numbers of a step are finite.

    Args:
        step: steps done after this one.
        sums: summed loss per micro-batch and task of this rank.
        norms: gradient norm by module, over all ranks.
        documents: per micro-batch, task and uid of each document.
    """
    for loss, held in zip(sums, documents, strict=True):
        for task, number in TASK_IDS.items():
            if not math.isfinite(loss[number]):
                uids = [uid.hex() for name, uid in held if name == task]
                raise NonFiniteError(
                    f"step {step}: the {task} loss is {loss[number]}; its micro-batch held samples {', '.join(uids)}"
                )
    bad = [module for module, norm in norms.items() if not math.isfinite(norm)]
    bad = [module for module in bad if module != "all"] or bad
    if bad:
        uids = [uid.hex() for held in documents for _, uid in held]
        shown = ", ".join(uids[:32]) + (f" and {len(uids) - 32} more" if len(uids) > 32 else "")
        raise NonFiniteError(
            f"step {step}: the gradient of {', '.join(bad)} is not finite though this rank's losses are; "
            f"this rank's samples: {shown}"
        )


def check_weights(model: nn.Module, where: Path) -> None:
    """Raise ValueError with one line naming the first weight of a starting model that is no finite number.

    Training would only find a loss that is not finite, and blame the samples.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            found = f"{count:,} of the {tensor.numel():,} numbers of {name} are not finite"
            raise ValueError(f"{where}: {found}; this model cannot be trained")


def documents_of(batches: Sequence[PackedBatch]) -> list[list[tuple[str, bytes]]]:
    """Task and uid of every document, per micro-batch."""
    return [list(zip(batch.tasks, batch.uids, strict=True)) for batch in batches]


class StopRequest:
    """Turns SIGTERM, SIGINT and SIGHUP into a request to stop after the step; a second SIGINT (Ctrl-C) acts as usual.

    SIGHUP comes when the terminal is closed: what is printed from then on goes nowhere. SIGTERM comes twice where a
    scheduler signals every process of a job and the launcher forwards its own.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.wanted = False
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        before = {number: signal.getsignal(number) for number in self.SIGNALS}
        # What is ignored stays so: `nohup` ignores SIGHUP for its command.
        self._before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

    def __enter__(self) -> StopRequest:
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        if number == signal.SIGHUP and self._terminals:
            # Printing to a closed terminal fails, and would end the run before its checkpoint.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for terminal in self._terminals:
                os.dup2(nowhere, terminal)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
