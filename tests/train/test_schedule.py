"""Learning rates step by step."""

from __future__ import annotations

import math

import pytest

from janus.train.recipe import Schedule
from janus.train.schedule import lr_factor


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    assert [lr_factor(Schedule("constant", warmup=4), step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine_goes_from_peak_to_floor() -> None:
    schedule = Schedule("cosine", warmup=2, floor=0.1)
    factors = [lr_factor(schedule, step, 12) for step in range(12)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[-1] == pytest.approx(0.1)
    assert factors[2:] == sorted(factors[2:], reverse=True)
    assert factors[5] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 3 / 9)))


@pytest.mark.parametrize("shape", ["constant", "cosine"])
def test_one_step_runs_at_the_peak(shape: str) -> None:
    assert lr_factor(Schedule(shape), 0, 1) == 1.0
