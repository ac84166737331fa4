"""The example of docs/model.md runs, learns and keeps its promise of length."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "third_modality.py"


def test_a_third_modality_is_learned_in_under_a_hundred_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 100
    probability = runpy.run_path(str(EXAMPLE))["main"](steps=60)
    assert probability > 0.9  # guessing gives 0.5
