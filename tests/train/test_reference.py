"""The first steps of a pinned run are those in the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.train.reference import CURVE, STEPS, reference_run

FIRST = 4
# fp32 sums in another order, as another CPU's kernels do them: about 1e-6 at the first step, growing with each update.
RELATIVE_TOLERANCE = 2e-5


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_first_steps_are_the_references(tmp_path: Path) -> None:
    expected = json.loads(CURVE.read_text())
    found = reference_run(tmp_path, FIRST)
    assert [line["batch"] for line in found] == [line["batch"] for line in expected[:FIRST]], "the data order changed"
    assert [line["tokens"] for line in found] == [line["tokens"] for line in expected[:FIRST]]
    for line, reference in zip(found, expected, strict=False):
        assert line["loss"] == pytest.approx(reference["loss"], rel=RELATIVE_TOLERANCE)


def test_the_curve_falls() -> None:
    """Random words and codes: towards guessing by frequency, from guessing."""
    curve = json.loads(CURVE.read_text())
    assert [line["step"] for line in curve] == list(range(1, STEPS + 1))
    assert curve[-1]["loss"]["all"] < curve[0]["loss"]["all"]
