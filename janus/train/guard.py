"""What may end a run early: a loss that is no number, and a signal."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from types import FrameType

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


def documents_of(batches: Sequence[PackedBatch]) -> list[list[tuple[str, bytes]]]:
    """Task and uid of every document, per micro-batch."""
    return [list(zip(batch.tasks, batch.uids, strict=True)) for batch in batches]


class StopRequest:
    """Turns SIGTERM and SIGINT into a wish to stop after the step; a second SIGINT (Ctrl-C) acts as usual.

    SIGTERM comes twice where a scheduler signals every process of a job and the launcher forwards its own.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.wanted = False
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}

    def __enter__(self) -> StopRequest:
        for number in self.SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
