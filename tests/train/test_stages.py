"""Stages 1, 2 and 3 chained: what each one changes, bit for bit, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from janus.model.checkpoints.model_folder import load_janus, open_model
from janus.model.network import MODULES
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.record import Inputs
from tests.train.little import little_recipe

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

QUIET = Console(quiet=True)
TRAINED = {
    1: {"understanding_adaptor", "generation_adaptor", "image_head", "code_embedding"},
    2: {"understanding_adaptor", "generation_adaptor", "image_head", "code_embedding", "llm", "text_head"},
    3: set(MODULES) - {"vq"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> dict[int, Path]:
    """Model folder after each stage; 0 is before the first."""
    runs = tmp_path_factory.mktemp("runs")
    folders = {0: model}
    for stage in (1, 2, 3):
        out = runs / f"stage{stage}"
        assert train(little_recipe(stage), Inputs(folders[stage - 1], corpus, out), QUIET, device="cpu")
        folders[stage] = out / "model"
    return folders


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_exactly_the_trained_modules_change(folders: dict[int, Path], stage: int) -> None:
    before, after = (load_janus(folders[number])[0].state_dict() for number in (stage - 1, stage))
    assert before.keys() == after.keys()
    for module, path in MODULES.items():
        names = [name for name in before if name.startswith(path + ".")]
        same = [torch.equal(before[name], after[name]) for name in names]
        assert names
        if module in TRAINED[stage]:
            assert not any(same), f"{module}: {names[same.index(True)]} did not change"
        else:
            assert all(same), f"{module}: {names[same.index(False)]} changed"


def test_run_folder_says_what_was_run(folders: dict[int, Path]) -> None:
    lines = read_metrics(folders[2].parent / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert set(line["loss"]) == {"all", "understanding", "text", "generation"}
        mean = sum(line["loss"][task] * count for task, count in line["tokens"].items()) / sum(line["tokens"].values())
        assert line["loss"]["all"] == pytest.approx(mean, rel=1e-6)
        total = sum(norm**2 for module, norm in line["grad_norm"].items() if module != "all") ** 0.5
        assert line["grad_norm"]["all"] == pytest.approx(total, rel=1e-5)


def test_a_model_in_bf16_is_the_rounded_one(folders: dict[int, Path], corpus: Path, tmp_path: Path) -> None:
    """The VQ tokenizer stays as it was: a rounded one would make other codes than those of the corpus."""
    recipe = little_recipe(1, output="bf16")
    assert train(recipe, Inputs(folders[0], corpus, tmp_path / "run"), QUIET, device="cpu")
    exact = open_model(folders[1]).tensors()
    found = open_model(tmp_path / "run" / "model").tensors()
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        expected = tensor if ".vqmodel." in name else tensor.bfloat16()
        assert found[name].dtype == expected.dtype, name
        assert torch.equal(found[name], expected), name
    # It goes on to the next stage.
    inputs = Inputs(tmp_path / "run" / "model", corpus, tmp_path / "2")
    assert train(little_recipe(2, steps=1), inputs, QUIET, device="cpu")
