"""What a run starts from: its own snapshot, a corpus of its stage, and errors that all processes agree on."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from janus.cli import run
from janus.model.checkpoints.fingerprint import fingerprints
from janus.train.__main__ import main
from janus.train.checkpoint import committed
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.recipe import Checkpoint, Recipe, Watch
from janus.train.record import Inputs
from pipelines.build import build
from schemas.manifest import load_snapshot
from schemas.spec import Operations
from tests.data.make import MadeSource, corpus_of, make_row
from tests.pipelines.world import folder_source, image_folder, spec
from tests.train.little import VOCABULARY, little_recipe, write_corpus
from tests.train.ranks import run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

QUIET = Console(quiet=True)


def of_one_task(recipe: Recipe, ratio: tuple[int, int, int]) -> Recipe:
    return replace(recipe, data=replace(recipe.data, ratio=ratio, first_group=""))


def curve(out: Path) -> list[dict[str, Any]]:
    return [{name: line[name] for name in ("step", "loss", "batch")} for line in read_metrics(out / "metrics.jsonl")]


def test_a_run_stays_on_its_snapshot(model: Path, corpus: Path, tmp_path: Path) -> None:
    """A refresh publishes between kill and restart."""
    photos, growing = image_folder(tmp_path / "photos", list(range(24))), tmp_path / "corpus"
    settings = spec(model, [folder_source(photos)], dedup={"near_radius": None})
    first = build(settings, growing, Operations())
    recipe = of_one_task(little_recipe(2, checkpoint=Checkpoint(every=2)), (0, 0, 1))
    train(recipe, Inputs(model, growing, tmp_path / "calm"), QUIET, device="cpu")
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "calm", killed)
    shutil.rmtree(killed / "model")
    shutil.rmtree(killed / "checkpoints" / "step-000004")

    image_folder(tmp_path / "photos", list(range(32)))
    second = build(settings, growing, Operations())
    assert load_snapshot(growing) == second != first
    with pytest.raises(ValueError, match=rf"on snapshot {first.name}, --snapshot is {second.name}: a run stays"):
        train(recipe, Inputs(model, growing, killed, second.name), QUIET, device="cpu")
    other = load_snapshot(corpus).name
    with pytest.raises(FileNotFoundError, match=rf"snapshot {first.name}, which .* lacks \(its latest is {other}\)"):
        train(recipe, Inputs(model, corpus, killed), QUIET, device="cpu")

    assert train(recipe, Inputs(model, growing, killed), QUIET, device="cpu")
    assert curve(killed) == curve(tmp_path / "calm")
    assert json.loads((killed / "recipe.json").read_text())["snapshot"] == first.name
    train(recipe, Inputs(model, growing, tmp_path / "new"), QUIET, device="cpu")
    assert json.loads((tmp_path / "new" / "recipe.json").read_text())["snapshot"] == second.name


def test_a_corpus_of_another_stage_is_refused_or_noted(model: Path, corpus: Path, tmp_path: Path) -> None:
    """The corpus was made for stage 2."""

    def start(stage: int, corpus_stage: int) -> str:
        recipe = little_recipe(stage, steps=1)
        recipe = replace(recipe, data=replace(recipe.data, corpus_stage=corpus_stage))
        text = io.StringIO()
        out = tmp_path / f"{stage}-{corpus_stage}"
        train(recipe, Inputs(model, corpus, out), Console(file=text, width=300), device="cpu")
        return text.getvalue()

    with pytest.raises(ValueError, match=r"was built for stage 2, the recipe is of stage 3, .* --data.corpus-stage 2$"):
        start(3, 0)
    assert not (tmp_path / "3-0").exists()
    assert "corpus 'made' was built for stage 2, the recipe is of stage 1\n" in start(1, 0)
    for stage, corpus_stage in ((3, 2), (1, 2), (2, 0)):
        assert "was built for" not in start(stage, corpus_stage)


def test_a_held_out_corpus_is_tried_before_the_first_step(model: Path, corpus: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out"
    write_corpus(held_out, model, [MadeSource("photos", "understanding", 8)])
    recipe = little_recipe(2, watch=Watch(log_every=1, held_out=str(held_out), held_out_every=4))
    with pytest.raises(ValueError, match=r"^--watch.held-out .*held-out: the recipe trains on text, but snapshot"):
        train(recipe, Inputs(model, corpus, tmp_path / "run"), QUIET, device="cpu")
    assert not (tmp_path / "run").exists()


def damaged_corpus(folder: Path, model: Path, wrong: int) -> None:
    """Texts of which number `wrong` has labels on its first token."""
    made_with = fingerprints(model, "jpeg")
    source = MadeSource("texts", "text", 40)
    rows = [make_row(source, number, made_with=made_with, vocab=VOCABULARY) for number in range(source.rows)]
    rows[wrong]["loss_mask"][0] = True
    corpus_of(folder, {("texts", "text", ""): rows}, made_with, shard_rows=16)


def test_an_error_after_a_save_does_not_lose_it(model: Path, corpus: Path, tmp_path: Path) -> None:
    """The held-out loss due with the save finds a damaged row."""
    damaged_corpus(tmp_path / "held-out", model, 7)
    watch = Watch(log_every=1, held_out=str(tmp_path / "held-out"), held_out_every=2, held_out_steps=4)
    recipe = of_one_task(little_recipe(2, checkpoint=Checkpoint(every=2), watch=watch), (0, 1, 0))
    for _ in range(2):
        with pytest.raises(ValueError, match="damaged row: BOS is a label"):
            train(recipe, Inputs(model, corpus, tmp_path / "run"), QUIET, device="cpu")
    # The second start went on from the first one's checkpoint.
    assert [step for step, _ in committed(tmp_path / "run" / "checkpoints")] == [2, 4]


def ending(model: Path, corpus: Path, out: Path, *more: str) -> tuple[Any, str]:
    """Exit code and stderr of the command on one of the processes."""
    torch.set_num_threads(1)
    words = f"train --stage 2 --preset tiny --model {model} --data {corpus} --out {out} --device cpu"
    sys.argv = [*f"{words} --data.sequences 2 --data.seq-len 64 --data.micro-batch 1".split(), *more]
    sys.stderr = text = io.StringIO()
    try:
        run(main)
    except SystemExit as stop:
        return stop.code, text.getvalue()


def one_line(ends: list[tuple[Any, str]]) -> str:
    """The one error line of processes that all ended with 1."""
    assert [code for code, _ in ends] == [1] * len(ends)
    lines = [line for _, text in ends for line in text.splitlines() if "error" in line]
    assert len(lines) == 1, lines
    return lines[0]


def test_an_error_of_one_process_ends_all_with_one_line(model: Path, corpus: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "run", ("--steps", "2", "--data.first-group", "")
    assert [code for code, _ in run_ranks(2, ending, model, corpus, out, *steps)] == [None, None]
    # Only rank 0 compares identities.
    line = one_line(run_ranks(2, ending, model, corpus, out, *steps, "--optimizer.lr", "1"))
    assert line.startswith("error: ")
    assert "recipe.optimizer.lr was 0.003, now 1.0" in line
    # All ranks find the same.
    line = one_line(run_ranks(2, ending, model, corpus, tmp_path / "new", *steps, "--data.seq-len", "8"))
    assert "data.seq_len is 8" in line
    # One rank reaches a damaged row.
    damaged_corpus(tmp_path / "damaged", model, 7)
    text = ("--steps", "40", "--data.ratio", "0", "1", "0")
    line = one_line(run_ranks(2, ending, model, tmp_path / "damaged", tmp_path / "third", *text))
    assert "damaged row: BOS is a label" in line
