"""Held-out loss, samples and answers while training; they change nothing of the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.model.inference.sampling import sample_images
from janus.report.contact_sheet import GAP
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import token_ids, train
from janus.train.recipe import Watch
from janus.train.record import Inputs
from janus.train.step import LossModule
from janus.train.watch import held_out_loss
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image file to ask about."""
    path = tmp_path_factory.mktemp("picture") / "p.png"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path)
    return path


def watched(corpus: Path, picture: Path) -> Watch:
    return Watch(
        log_every=1,
        held_out=str(corpus),
        held_out_every=2,
        held_out_steps=2,
        sample_every=2,
        prompts=("w7 w8", "w9"),
        questions=((str(picture), "w10 w11"),),
        cfg_scale=2.0,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path, picture: Path) -> dict[str, Path]:
    """The same stage 3, watched and not."""
    folder = tmp_path_factory.mktemp("runs")
    plain = little_recipe(3)
    for name, recipe in {"plain": plain, "watched": replace(plain, watch=watched(corpus, picture))}.items():
        train(recipe, Inputs(model, corpus, folder / name), QUIET, device="cpu")
    return {name: folder / name for name in ("plain", "watched")}


def test_looking_changes_nothing(runs: dict[str, Path]) -> None:
    plain, seen = (load_janus(runs[name] / "model")[0].state_dict() for name in ("plain", "watched"))
    assert all(torch.equal(plain[name], seen[name]) for name in plain)


def test_held_out_loss_is_the_mean_over_its_tokens(runs: dict[str, Path], corpus: Path) -> None:
    lines = [line for line in read_metrics(runs["watched"] / "metrics.jsonl") if "held_out" in line]
    assert [line["step"] for line in lines] == [2, 4]
    janus, processor = load_janus(runs["watched"] / "model")
    recipe = little_recipe(3)
    data = replace(recipe.data, caption_drop=0.0, short_caption=0.0)
    loader = Loader(corpus, load_snapshot(corpus), data=data, tokens=token_ids(processor, janus), steps=2)
    with torch.no_grad():
        losses = [janus.packed_loss(batch) for batches in loader for batch in batches]
    sums, counts = sum(loss.sums for loss in losses), sum(loss.counts for loss in losses)
    assert lines[1]["held_out"]["all"] == pytest.approx(float(sums.sum() / counts.sum()), rel=1e-6)
    assert lines[1]["held_out"]["text"] == pytest.approx(float(sums[1] / counts[1]), rel=1e-6)
    assert held_out_loss(LossModule(janus), loader, ALONE, recipe) == pytest.approx(lines[1]["held_out"])


def test_samples_are_those_of_the_model(runs: dict[str, Path], picture: Path) -> None:
    folder = runs["watched"] / "samples"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"step-{step:06d}.{kind}" for step in (2, 4) for kind in ("jsonl", "png")
    ]
    janus, processor = load_janus(runs["watched"] / "model")
    images = sample_images(janus, processor, ["w7 w8", "w9"], template="chat", cfg_scale=2.0, seeds=[0, 1])
    sheet = np.asarray(Image.open(folder / "step-000004.png"))
    for shown, image in zip((sheet[:, GAP:], sheet[:, 2 * GAP + images.shape[2] :]), images, strict=True):
        assert np.array_equal(shown[GAP : GAP + len(image), : len(image)], image)
    (line,) = [json.loads(line) for line in (folder / "step-000004.jsonl").read_text().splitlines()]
    assert (line["image"], line["question"]) == (str(picture), "w10 w11")
    assert isinstance(line["answer"], str)


def test_a_missing_picture_is_said_before_training(model: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = replace(little_recipe(3), watch=replace(watched(corpus, tmp_path / "no.png")))
    with pytest.raises(FileNotFoundError, match=r"--watch.questions: .*no.png: no such image"):
        train(recipe, Inputs(model, corpus, tmp_path / "run"), QUIET, device="cpu")


def train_sharded(recipe_watch: Watch, model: Path, corpus: Path, out: Path) -> bool:
    torch.set_num_threads(1)
    start = little_recipe(3, watch=recipe_watch)
    recipe = replace(
        start,
        optimizer=replace(start.optimizer, name="adamw"),
        parallel=replace(start.parallel, mode="fsdp"),
        data=replace(start.data, micro_batch=2),
    )
    return train(recipe, Inputs(model, corpus, out), QUIET, device="cpu")


@pytest.mark.slow
def test_sharded_models_are_watched_too(model: Path, corpus: Path, picture: Path, tmp_path: Path) -> None:
    assert run_ranks(2, train_sharded, watched(corpus, picture), model, corpus, tmp_path / "run") == [True, True]
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 4
    last = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    janus, _ = load_janus(tmp_path / "run" / "model")
    assert last["step"] == 4
    assert last["held_out"]["all"] > 0
    assert all(torch.isfinite(tensor).all() for tensor in janus.state_dict().values())
