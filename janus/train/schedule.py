"""Learning rate over steps, as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from janus.train.recipe import Schedule


def lr_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the peak learning rates are multiplied with at `step` (from 0) of a run of `steps`.

    Linear warm-up reaches 1 at step `warmup - 1`. Cosine falls from 1 after the warm-up to `floor` at the last step.
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.shape == "constant":
        return 1.0
    progress = (step - schedule.warmup) / max(1, steps - 1 - schedule.warmup)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
