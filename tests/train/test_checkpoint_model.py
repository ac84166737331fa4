"""Models out of checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from janus.export import main
from janus.model.checkpoints.model_folder import load_janus
from janus.train.checkpoint_model import checkpoint_to_model
from janus.train.loop import train
from janus.train.recipe import Checkpoint
from janus.train.record import Inputs
from tests.train.little import little_recipe

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> Path:
    """Run folder of four steps with checkpoints after 2 and 4."""
    out = tmp_path_factory.mktemp("run")
    train(
        little_recipe(2, checkpoint=Checkpoint(every=2)), Inputs(model, corpus, out), Console(quiet=True), device="cpu"
    )
    return out


def test_the_last_checkpoint_is_the_final_model(run: Path, tmp_path: Path) -> None:
    assert checkpoint_to_model(run, tmp_path / "model") == 4
    found, expected = (load_janus(folder)[0].state_dict() for folder in (tmp_path / "model", run / "model"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_earlier_one_is_not(run: Path, tmp_path: Path) -> None:
    assert checkpoint_to_model(run, tmp_path / "model", step=2) == 2
    found, expected = (load_janus(folder)[0].state_dict() for folder in (tmp_path / "model", run / "model"))
    same = {name for name in expected if torch.equal(found[name], expected[name])}
    assert same == {name for name in expected if ".vision_model." in name or ".vqmodel." in name}


def test_works_from_another_directory(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was given its model by a relative path."""
    monkeypatch.chdir(model.parent)
    recipe = little_recipe(1, steps=1)
    train(recipe, Inputs(Path(model.name), corpus, tmp_path / "run"), Console(quiet=True), device="cpu")
    monkeypatch.chdir(tmp_path)
    assert checkpoint_to_model(tmp_path / "run", tmp_path / "out") == 1


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3; there are 2, 4"):
        checkpoint_to_model(run, tmp_path / "model", step=3)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        checkpoint_to_model(tmp_path, tmp_path / "model")


@pytest.mark.parametrize("dtype", ["as-stored", ""])
def test_export_takes_a_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    option = f" --dtype {dtype}" if dtype else ""
    monkeypatch.setattr(sys, "argv", f"export --run {run} --step 2 --out {tmp_path / 'model'}{option}".split())
    main()
    assert "the model after step 2" in capsys.readouterr().err
    assert checkpoint_to_model(run, tmp_path / "same", step=2) == 2
    found, expected = (load_janus(tmp_path / name)[0].state_dict() for name in ("model", "same"))
    # `export` normalises the codebook of a random VQ tokenizer; all else is as it was, in bf16 unless told otherwise.
    for name in (name for name in expected if ".vqmodel." not in name):
        stored = expected[name] if dtype else expected[name].bfloat16().float()
        assert torch.equal(found[name], stored), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "same"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out o", "no model folder named, nor a run"),
        ("m --run r --out o", "name a model folder to read, or a run with --run"),
        ("m --step 3 --out o", "--step 3 is of a run"),
        ("m", "--out"),
    ],
)
def test_export_says_what_is_missing(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no workspace file says which model is meant
    monkeypatch.setattr(sys, "argv", ["export", *words.split()])
    with pytest.raises(ValueError, match=message):
        main()
