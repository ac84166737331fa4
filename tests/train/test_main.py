"""The command line: typed overrides of a preset, one line for mistakes, quick help."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

from janus.cli import UserError, run
from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.train.__main__ import main, read_command
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import dry_run, token_ids, train
from janus.train.optim import freeze
from janus.train.presets import recipe
from janus.train.record import Inputs
from janus.train.rehearsal import kept_bytes
from janus.train.step import LossModule
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe
from tests.train.steps import QUIET

PATHS = ["--model", "m", "--data", "d", "--out", "o"]


def test_fields_replace_those_of_the_preset() -> None:
    words = "--stage 3 --preset janus-1.3b --optimizer.lr 1e-5 --data.ratio 5 1 4 --data.micro-batch 2 --steps 7"
    more = ["--parallel.mode", "hybrid", "--train", "llm", "text_head", "--watch.prompts", "a dog", "two cats"]
    command = read_command([*words.split(), *more, *PATHS])
    start = recipe("janus-1.3b", 3)
    assert command.recipe == replace(
        start,
        steps=7,
        train=("llm", "text_head"),
        optimizer=replace(start.optimizer, lr=1e-5),
        data=replace(start.data, ratio=(5, 1, 4), micro_batch=2),
        parallel=replace(start.parallel, mode="hybrid"),
        watch=replace(start.watch, prompts=("a dog", "two cats")),
    )
    assert [str(path) for path in (command.model, command.data, command.out)] == ["m", "d", "o"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--preset tiny", "--stage is missing: expected one of 1, 2, 3"),
        ("--stage 1", "--preset is missing: expected one of janus-1.3b"),
        ("--stage 4 --preset tiny", "--stage 4: expected 1, 2 or 3"),
        ("--stage one --preset tiny", "invalid int value: 'one'"),
        ("--stage 1 --preset huge", "--preset huge: expected one of janus-1.3b"),
        ("--stage 1 --preset tiny --optimizer.lrr 1", "--optimizer.lrr, 1; perhaps you meant --optimizer.lr"),
        ("--stage 1 --preset tiny --optimizer.lr fast", "--optimizer.lr: could not convert string to float: 'fast'"),
        ("--stage 1 --preset tiny --precision fp8", "invalid choice 'fp8' for argument '--precision'"),
        ("--stage 1 --preset tiny --train everything", "invalid choice 'everything'"),
        ("--stage 1 --preset tiny --steps 0", "--steps 0: expected at least 1"),
        ("--stage 1 --preset tiny --checkpoint.keep 0", "--checkpoint.keep 0: expected at least 1: the newest is"),
        ("--stage 1 --preset tiny --parallel.gc-every 0", "--parallel.gc-every 0: expected at least 1"),
        ("--stage 1 --preset tiny --watch.held-out-every 0", "--watch.held-out-every 0: expected at least 1"),
        ("--stage 1 --preset tiny --data.caption-drop 2", "data.caption_drop 2.0: must lie between 0 and 1"),
    ],
)
def test_mistakes_are_one_line(words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no workspace file
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_command([*words.split(), *PATHS])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_paths_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no workspace file
    with pytest.raises(UserError, match="--model"):
        read_command(["--stage", "1", "--preset", "tiny", "--data", "d", "--out", "o"])


def test_help_explains_fields_and_loads_no_torch() -> None:
    words = "-X importtime -m janus.train --stage 3 --preset janus-1.3b --help"
    done = subprocess.run([sys.executable, *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "janus.train.recipe" in imported
    assert not {"torch", "transformers", "numpy", "pyarrow"} & imported
    assert "Decoupled weight decay" in done.stdout
    assert "(default: 7 3 10)" in done.stdout
    assert "(default: 2e-05)" in done.stdout


def test_wrong_paths_are_one_line_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, message in (
        (tmp_path, "no LATEST file"),
        (corpus, "no config.json there; expected a Hugging Face"),
    ):
        words = f"train --stage 1 --preset tiny --model {tmp_path} --data {data} --out {tmp_path}/run"
        monkeypatch.setattr(sys, "argv", words.split())
        with pytest.raises(SystemExit) as caught:
            run(main)
        assert caught.value.code == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1


CONFIG = """
model = "m"
data = "s3://bucket/corpus"
[recipe]
stage = 2
preset = "tiny"
steps = 7
train = ["llm"]
[recipe.data]
ratio = [1, 1, 0]
weights = { photos = 2.0 }
[recipe.optimizer]
lr = 1
"""


def test_a_file_sets_any_field_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(CONFIG)
    command = read_command(["--config", str(tmp_path / "run.toml"), "--out", "o", "--steps", "9", "--data.seed", "4"])
    start = recipe("tiny", 2)
    assert command.recipe == replace(
        start,
        steps=9,
        train=("llm",),
        optimizer=replace(start.optimizer, lr=1.0),
        data=replace(start.data, ratio=(1, 1, 0), weights={"photos": 2.0}, seed=4),
    )
    assert (str(command.model), command.data, str(command.out)) == ("m", "s3://bucket/corpus", "o")
    third = read_command(["--config", str(tmp_path / "run.toml"), "--out", "o", "--stage", "3", "--model", "n"])
    assert (third.recipe.stage, third.recipe.train, third.recipe.steps, str(third.model)) == (3, ("llm",), 7, "n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle = 'm'", "run.toml: modle: no such setting (did you mean model?); there are: "),
        ("model = 3", "run.toml: model: expected a text, found 3"),
        ("dry_run = 'yes'", "run.toml: dry_run: expected true or false, found 'yes'"),
        ("model = ", "run.toml: not valid TOML: "),
        ("recipe = 'tiny'", "run.toml: recipe: expected a table of fields"),
        ("[recipe.optimizer]\nlrr = 1", "run.toml: recipe.optimizer.lrr: no such field; did you mean lr?"),
        ("[recipe.data]\nratio = [0, 0, 0]", "data.ratio (0, 0, 0): needs whole numbers"),
    ],
)
def test_mistakes_in_a_file_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(content)
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_command(["--config", str(tmp_path / "run.toml"), "--stage", "1", "--preset", "tiny", *PATHS])
    assert message in str(caught.value)
    assert str(tmp_path / "run.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_record_of_a_run_runs_again(model: Path, corpus: Path, tmp_path: Path) -> None:
    """As it is: the same recipe on the same snapshot, hence the same losses."""
    start = replace(little_recipe(2, steps=2), data=replace(little_recipe(2).data, weights={"photos": 2.0}))
    train(start, Inputs(model, corpus, tmp_path / "a"), QUIET, device="cpu")
    command = read_command(["--config", str(tmp_path / "a" / "recipe.json"), "--out", str(tmp_path / "b")])
    assert command.recipe == start
    assert command.snapshot == load_snapshot(corpus).name
    inputs = Inputs(command.model, command.data, command.out, command.snapshot)
    train(command.recipe, inputs, QUIET, device="cpu")
    losses = [[line["loss"] for line in read_metrics(tmp_path / run / "metrics.jsonl")] for run in "ab"]
    assert losses[0] == losses[1]


def test_a_dry_run_shows_what_the_first_step_is_like_and_writes_nothing(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    """Its losses are those of the run's first step; memory is what the allocator gave."""
    recipe = little_recipe(2, steps=3)
    text = io.StringIO()
    inputs = Inputs(model, corpus, tmp_path / "run")
    dry_run(recipe, inputs, Console(file=text, width=300), device="cpu", rate=1000.0)
    assert not (tmp_path / "run").exists()
    shown = text.getvalue()
    for part in (
        "Run card: tiny, stage 2",
        "over the whole run:",
        "memory per process: ",
        "1,000 tokens a second (as ",
    ):
        assert part in shown
    train(recipe, inputs, QUIET, device="cpu")
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["loss"]
    for task, loss in first.items():
        assert f"{task} {loss:.4f}" in shown
    # Beside a run that has begun it changes nothing either, and refuses what the run would refuse.
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    dry_run(recipe, inputs, QUIET, device="cpu")
    with pytest.raises(ValueError, match=r"was written by another run: recipe.clip was 1.0, now 2.0"):
        dry_run(replace(recipe, clip=2.0), inputs, QUIET, device="cpu")
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize("stage", [1, 3])
def test_activations_are_counted_as_the_allocator_does(model: Path, corpus: Path, stage: int) -> None:
    recipe = little_recipe(stage)
    janus, processor = load_janus(model)
    freeze(janus, recipe.train)
    module = LossModule(janus)
    loader = Loader(corpus, load_snapshot(corpus), data=recipe.data, tokens=token_ids(processor, janus), steps=1)
    (batch,) = next(iter(loader))
    with kept_bytes(module) as kept, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        losses = module(batch)
    # What forward allocated and did not free, without what comes out.
    allocated = sum(event.nbytes() for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]")
    inputs = sum(v.untyped_storage().nbytes() for v in vars(batch).values() if isinstance(v, torch.Tensor))
    assert losses.sums.requires_grad
    assert kept[0] == pytest.approx(allocated, rel=0.15, abs=inputs)
