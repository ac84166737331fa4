"""The benchmark of a build's models runs without a GPU and reports what the models themselves compute."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch

from benchmarks import pipeline_models
from tests.pipelines.world import TOY_CLIP


def test_rates_of_tiny_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy-benchmark-clip.json").write_text(json.dumps(TOY_CLIP))
    open_clip.add_model_config(tmp_path / "toy-benchmark-clip.json")
    pipeline_models.main(["--preset", "tiny", "--scorer", "toy-benchmark-clip", "--images", "20", "--rounds", "1"])
    rows = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("| codes", "| scor"))
    ]
    assert [(row[0], row[2]) for row in rows] == [
        ("| codes, 64 px", "1"),
        ("| codes, 64 px", "16"),
        ("| scores, 32 px", "1"),
        ("| scores, 32 px", "16"),
    ]
    for row in rows:
        assert float(row[3].replace(",", "")) > 0
        assert row[6] == "100.0% |", "one by one gives what a batch gives"


def test_flops_are_those_of_the_convolutions_and_products() -> None:
    layer = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
    pixels = torch.zeros(5, 3, 16, 16)
    assert pipeline_models.flops_per_image(layer, pixels) == 2 * (3 * 4 * 4) * 8 * 4 * 4
