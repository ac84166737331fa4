"""The first steps of the tiny preset are those in the repository, to the last bit where that can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from janus.model.checkpoints.model_folder import open_model
from janus.model.presets import PRESETS
from tests.train.reference import CURVE, STEPS, machine, reference_run, write_reference_model

FIRST = 8
# Where the run does not repeat itself bit for bit; 20 times the largest difference seen (tests/train/reference.py).
RELATIVE_TOLERANCE = 2e-6


def recorded() -> tuple[dict[str, str], list[dict[str, Any]]]:
    curve = json.loads(CURVE.read_text())
    return curve["machine"], curve["steps"]


def test_first_steps_are_the_references(tmp_path: Path) -> None:
    kind, steps = recorded()
    expected, found = steps[:FIRST], reference_run(tmp_path, FIRST)
    assert [line["batch"] for line in found] == [line["batch"] for line in expected], "the data order changed"
    assert [line["tokens"] for line in found] == [line["tokens"] for line in expected]
    if kind == machine():
        assert [line["loss"] for line in found] == [line["loss"] for line in expected]
    for line, reference in zip(found, expected, strict=True):
        assert line["loss"] == pytest.approx(reference["loss"], rel=RELATIVE_TOLERANCE)


@pytest.mark.slow
def test_the_whole_stage_is_the_references(tmp_path: Path) -> None:
    kind, steps = recorded()
    if kind != machine():
        pytest.skip(f"recorded with {kind}: rounding differs here, and differences grow over {STEPS} steps")
    assert reference_run(tmp_path, STEPS) == steps


def test_the_curve_is_the_presets_and_falls(tmp_path: Path) -> None:
    """Random words and codes: from guessing towards knowing them by heart."""
    config = open_model(write_reference_model(tmp_path)).config
    for part, shape in (("text_config", PRESETS["tiny"].text), ("vision_config", PRESETS["tiny"].vision)):
        assert {name: getattr(getattr(config, part), name) for name in shape} == shape
    _, curve = recorded()
    assert [line["step"] for line in curve] == list(range(1, STEPS + 1))
    assert curve[-1]["loss"]["all"] < 0.9 * curve[0]["loss"]["all"]
