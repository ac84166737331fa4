"""Which device a run takes: never the CPU without a word."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from janus.train.loop import train
from janus.train.record import Inputs
from janus.train.world import choose_device
from tests.train.little import little_recipe

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
def test_auto_without_a_gpu_says_why_it_is_the_cpu(tmp_path: Path) -> None:
    device, note = choose_device("auto", nodes=tmp_path)
    assert device == torch.device("cpu")
    assert note.startswith("no GPU: ")
    assert len(note) > len("no GPU: ")
    assert choose_device("cpu", nodes=tmp_path) == (torch.device("cpu"), "")


@no_gpu
def test_a_gpu_that_torch_cannot_use_is_no_reason_for_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device node of a card is there, and the driver does not answer."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    with pytest.raises(
        ValueError, match=r"^--device auto: there is a GPU that torch cannot use \(.+\); .*--device cpu$"
    ):
        choose_device("auto", nodes=tmp_path)
    assert choose_device("cpu", nodes=tmp_path) == (torch.device("cpu"), "")
    # Unless somebody has hidden it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto", nodes=tmp_path)[0] == torch.device("cpu")


@no_gpu
def test_cuda_without_cuda_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--device cuda: torch sees no CUDA device here \(.+\); ") as caught:
        choose_device("cuda", nodes=tmp_path)
    assert "\n" not in str(caught.value)


def test_the_card_names_device_and_repeats(model: Path, corpus: Path, tmp_path: Path) -> None:
    text = io.StringIO()
    recipe = little_recipe(2, steps=30)
    assert train(recipe, Inputs(model, corpus, tmp_path / "run"), Console(file=text, width=200), device="cpu")
    shown = text.getvalue()
    before = shown[: shown.index("step 1/")]
    assert "on CPU " in before
    assert f"{torch.get_num_threads()} threads" in before
    assert "note: rows are repeated, epochs over the whole run: " in before
    for source in ("photos", "texts", "classes", "drawings"):
        assert source in before
