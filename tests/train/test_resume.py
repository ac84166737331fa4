"""A run that was stopped, killed or moved to other processes is the run that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from janus.cli import run
from janus.model.folder import load_janus
from janus.train.__main__ import main
from janus.train.checkpoint import committed
from janus.train.loop import train
from janus.train.metrics import read_metrics
from janus.train.recipe import Checkpoint, Recipe
from janus.train.record import Inputs
from tests.train.little import little_recipe
from tests.train.ranks import CONTEXT, run_ranks

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

QUIET = Console(quiet=True)
STEPS, SAVED = 6, 3
SIZES = [1, 2, 4]


def make_recipe() -> Recipe:
    """Stage 3, saved after half of its steps."""
    start = little_recipe(3, steps=STEPS, checkpoint=Checkpoint(every=SAVED, keep=9))
    return replace(start, data=replace(start.data, micro_batch=1))


def train_quietly(recipe: Recipe, inputs: Inputs) -> bool:
    torch.set_num_threads(1)
    return train(recipe, inputs, QUIET, device="cpu")


def curve(out: Path) -> list[dict[str, Any]]:
    """Metrics without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name != "speed"} for line in read_metrics(out / "metrics.jsonl")
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_janus(out / "model")[0].state_dict()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> Callable[[int], Path]:
    """Run folder of an unbroken run on so many processes; made at the first call."""
    made: dict[int, Path] = {}

    def get(size: int) -> Path:
        if size not in made:
            made[size] = tmp_path_factory.mktemp("unbroken") / "run"
            assert all(run_ranks(size, train_quietly, make_recipe(), Inputs(model, corpus, made[size])))
        return made[size]

    return get


def big(size: int) -> Any:
    return pytest.param(size, marks=pytest.mark.slow) if size == 4 else size


@pytest.mark.parametrize("loaded", [big(size) for size in SIZES])
@pytest.mark.parametrize("saved", [big(size) for size in SIZES])
def test_resume_on_any_world_size(
    unbroken: Callable[[int], Path], model: Path, corpus: Path, tmp_path: Path, saved: int, loaded: int
) -> None:
    """As if the run on `saved` processes had died after its first checkpoint, to be continued on `loaded`."""
    out = tmp_path / "run"
    shutil.copytree(unbroken(saved), out)
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:06d}")
    assert all(run_ranks(loaded, train_quietly, make_recipe(), Inputs(model, corpus, out)))

    expected, found = curve(unbroken(saved)), curve(out)
    assert [line["batch"] for line in found] == [line["batch"] for line in expected]
    assert len({line["batch"]["fingerprint"] for line in found}) == STEPS
    if saved == loaded:
        assert found == expected
        before, after = weights(unbroken(saved)), weights(out)
        assert all(torch.equal(before[name], after[name]) for name in before)
    else:
        losses = [[line["loss"]["all"] for line in lines] for lines in (found, expected)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_checkpoint_of_another_run_is_refused(
    unbroken: Callable[[int], Path], model: Path, corpus: Path, tmp_path: Path
) -> None:
    recipe = make_recipe()
    other = replace(recipe, optimizer=replace(recipe.optimizer, lr=1.0))
    with pytest.raises(
        ValueError, match=r"step-000006 was written by another run: recipe.optimizer.lr was 0.002, now 1"
    ):
        train(other, Inputs(model, corpus, unbroken(1)), QUIET, device="cpu")


def test_what_a_killed_save_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("step-000002", "step-000004.saving", "step-000006", "step-000008.deleting", "notes"):
        (tmp_path / name).mkdir()
        if name != "step-000006":
            (tmp_path / name / "state.json").write_text("{}")
    assert committed(tmp_path) == [(2, tmp_path / "step-000002")]
    assert committed(tmp_path / "nowhere") == []


def test_keeps_newest_and_milestones(model: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = little_recipe(1, steps=7, checkpoint=Checkpoint(every=1, keep=2, milestone_every=3))
    train(recipe, Inputs(model, corpus, tmp_path), QUIET, device="cpu")
    assert [step for step, _ in committed(tmp_path / "checkpoints")] == [3, 5, 6, 7]
    assert not list((tmp_path / "checkpoints").glob("step-*.*"))


def command(out: Path, model: Path, corpus: Path, *more: str) -> None:
    """The trainer as its command line starts it; ends the process."""
    torch.set_num_threads(1)
    sys.argv = ["train", *f"--stage 3 --preset tiny --model {model} --data {corpus} --out {out} --device cpu".split()]
    sys.argv += ["--data.sequences", "4", "--data.seq-len", "64", "--watch.log-every", "1", *more]
    sys.stderr = open(out.with_suffix(".log"), "a", buffering=1)  # noqa: SIM115 (the process ends with it)
    run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_zero(model: Path, corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process = CONTEXT.Process(target=command, args=(out, model, corpus, "--steps", "100000"))
    process.start()
    while len(read_metrics(out / "metrics.jsonl")) < 3:
        assert process.is_alive(), out.with_suffix(".log").read_text()
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 0, out.with_suffix(".log").read_text()
    last = read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert [step for step, _ in committed(out / "checkpoints")] == [last]
    assert not (out / "model").exists()
    assert f"stopped after step {last}; the same command continues" in out.with_suffix(".log").read_text()


@pytest.mark.slow
def test_ten_kills_end_in_the_same_weights(model: Path, corpus: Path, tmp_path: Path) -> None:
    """At any moment: while starting, training, saving, or writing the final model."""
    more = ("--steps", "240", "--checkpoint.every", "3")
    calm, hunted = tmp_path / "calm", tmp_path / "hunted"
    process = CONTEXT.Process(target=command, args=(calm, model, corpus, *more))
    process.start()
    process.join()
    assert process.exitcode == 0

    chance = random.Random(0)
    kills = 0
    while not (hunted / "model").exists():
        before = len(read_metrics(hunted / "metrics.jsonl"))
        process = CONTEXT.Process(target=command, args=(hunted, model, corpus, *more))
        process.start()
        if kills % 3:
            while process.is_alive() and len(read_metrics(hunted / "metrics.jsonl")) <= before:
                time.sleep(0.01)
        process.join(chance.uniform(0, 0.4) if kills < 10 else None)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
    assert kills == 10
    assert curve(hunted) == curve(calm)
    expected, found = weights(calm), weights(hunted)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
