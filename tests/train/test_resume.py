"""A run that was stopped, killed or moved to other processes is the run that was not."""

from __future__ import annotations

import io
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from janus.cli import run
from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.train import loop
from janus.train.__main__ import main
from janus.train.checkpoint import committed
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import token_ids, train
from janus.train.recipe import Checkpoint, Parallel, Recipe, Schedule
from janus.train.record import Inputs, read_record
from janus.train.step import accumulate
from schemas.manifest import load_snapshot
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


def train_noting(recipe: Recipe, inputs: Inputs) -> list[list[list[bytes]]]:
    """Train to the end; the uids of each pack of each step on this process, in order (a micro-batch is one pack)."""
    noted: list[list[list[bytes]]] = []

    def noting(module: Any, batches: Any, *args: Any, **kwargs: Any) -> Any:
        noted.append([batch.uids for batch in batches])
        return accumulate(module, batches, *args, **kwargs)

    loop.accumulate = noting
    try:
        assert train_quietly(recipe, inputs)
    finally:
        loop.accumulate = accumulate
    return noted


def together(ranks: list[list[list[list[bytes]]]]) -> list[list[list[bytes]]]:
    """The packs of each global batch in their order, of what `train_noting` noted: pack i is on rank i mod size."""
    steps = zip(*ranks, strict=True)
    return [[pack for packs in zip(*step, strict=True) for pack in packs if pack] for step in steps]


@pytest.fixture(scope="module")
def order(model: Path, corpus: Path) -> list[list[list[bytes]]]:
    """Uids of each pack of each step, read without training."""
    janus, processor = load_janus(model)
    tokens, recipe = token_ids(processor, janus), make_recipe()
    loader = Loader(corpus, load_snapshot(corpus), data=recipe.data, tokens=tokens, steps=STEPS)
    return [[batch.uids for batch in batches if batch.uids] for batches in loader]


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path, order: list[list[list[bytes]]]
) -> Callable[[int], Path]:
    """Run folder of an unbroken run on so many processes; made at the first call."""
    made: dict[int, Path] = {}

    def get(size: int) -> Path:
        if size not in made:
            made[size] = tmp_path_factory.mktemp("unbroken") / "run"
            noted = run_ranks(size, train_noting, make_recipe(), Inputs(model, corpus, made[size]))
            assert together(noted) == order
        return made[size]

    return get


def as_if_killed(finished: Path, out: Path) -> Path:
    """A copy of a finished run that died after its first checkpoint."""
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints" / f"step-{STEPS:06d}")
    return out


def big(size: int) -> Any:
    return pytest.param(size, marks=pytest.mark.slow) if size == 4 else size


@pytest.mark.parametrize("loaded", [big(size) for size in SIZES])
@pytest.mark.parametrize("saved", [big(size) for size in SIZES])
def test_resume_on_any_world_size(
    unbroken: Callable[[int], Path],
    order: list[list[list[bytes]]],
    model: Path,
    corpus: Path,
    tmp_path: Path,
    saved: int,
    loaded: int,
) -> None:
    """A run on `saved` processes is continued on `loaded`: the same samples in the same packs in the same order."""
    out = as_if_killed(unbroken(saved), tmp_path / "run")
    noted = run_ranks(loaded, train_noting, make_recipe(), Inputs(model, corpus, out))
    assert together(noted) == order[SAVED:]

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


def sharded_recipe() -> Recipe:
    start = make_recipe()
    adamw = replace(start.optimizer, name="adamw")
    return replace(start, optimizer=adamw, parallel=replace(start.parallel, mode="fsdp"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> Path:
    """Run folder of an unbroken run sharded over two processes."""
    out = tmp_path_factory.mktemp("sharded") / "run"
    assert all(run_ranks(2, train_quietly, sharded_recipe(), Inputs(model, corpus, out)))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("loaded", SIZES)
def test_shards_are_loaded_by_any_number_of_processes(
    sharded: Path, order: list[list[list[bytes]]], model: Path, corpus: Path, tmp_path: Path, loaded: int
) -> None:
    """Saved by two under FSDP, where weights and optimiser state are in pieces; a single process has them whole."""
    out = as_if_killed(sharded, tmp_path / "run")
    noted = run_ranks(loaded, train_noting, sharded_recipe(), Inputs(model, corpus, out))
    assert together(noted) == order[SAVED:]
    losses = [[line["loss"]["all"] for line in curve(folder)] for folder in (sharded, out)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    before, after = weights(sharded), weights(out)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0 if loaded == 2 else 1e-4)


def test_a_checkpoint_of_another_run_is_refused(
    unbroken: Callable[[int], Path], model: Path, corpus: Path, tmp_path: Path
) -> None:
    recipe = make_recipe()
    other = replace(recipe, optimizer=replace(recipe.optimizer, lr=1.0))
    with pytest.raises(
        ValueError, match=r"step-000006 was written by another run: recipe.optimizer.lr was 0.002, now 1"
    ):
        train(other, Inputs(model, corpus, unbroken(1)), QUIET, device="cpu")


def test_a_run_is_lengthened(model: Path, corpus: Path, tmp_path: Path) -> None:
    """Stopped at 3 of 3 steps and continued to 6: the run of 6 steps, bit for bit."""
    start = make_recipe()
    recipe = replace(start, schedule=Schedule("constant", warmup=2))
    calm, out = tmp_path / "calm", tmp_path / "run"
    assert train(recipe, Inputs(model, corpus, calm), QUIET, device="cpu")
    assert train(replace(recipe, steps=3), Inputs(model, corpus, out), QUIET, device="cpu")
    text = io.StringIO()
    assert train(recipe, Inputs(model, corpus, out), Console(file=text, width=200), device="cpu")
    assert "note: the run's length was 3 steps, now 6" in text.getvalue()
    assert curve(out) == curve(calm)
    before, after = weights(calm), weights(out)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [start.get("changes") for start in read_record(out)["starts"]] == [None, {"recipe.steps": [3, 6]}]
    with pytest.raises(ValueError, match=r"^--steps 4: .*step-000006 is already beyond that$"):
        train(replace(recipe, steps=4), Inputs(model, corpus, out), QUIET, device="cpu")
    cosine = Schedule("cosine", warmup=2)
    # A cosine bends by the run's length, and so does the step at which the sources change.
    with pytest.raises(ValueError, match=r"recipe.schedule.shape was constant, now cosine; .*by --new-recipe"):
        train(replace(recipe, steps=9, schedule=cosine), Inputs(model, corpus, out), QUIET, device="cpu")
    phases = replace(recipe.data, first_group="imagenet", first_share=0.5)
    out = tmp_path / "phases"
    assert train(replace(recipe, data=phases, steps=4), Inputs(model, corpus, out), QUIET, device="cpu")
    with pytest.raises(ValueError, match="by another run: order was"):
        train(replace(recipe, data=phases), Inputs(model, corpus, out), QUIET, device="cpu")
    same_step = replace(phases, first_share=2 / 6)
    assert train(replace(recipe, data=same_step), Inputs(model, corpus, out), QUIET, device="cpu")


def test_a_run_goes_on_with_a_new_recipe(model: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = little_recipe(3, steps=4, checkpoint=Checkpoint(every=2, keep=9))
    out = tmp_path / "run"
    assert train(recipe, Inputs(model, corpus, out), QUIET, device="cpu")
    other = replace(
        recipe,
        steps=6,
        optimizer=replace(recipe.optimizer, lr=1e-4),
        data=replace(recipe.data, ratio=(1, 1, 1)),
    )
    with pytest.raises(ValueError, match=r"step-000004 was written by another run: order was .*by --new-recipe"):
        train(other, Inputs(model, corpus, out), QUIET, device="cpu")
    text = io.StringIO()
    inputs = Inputs(model, corpus, out, new_recipe=True)
    assert train(other, inputs, Console(file=text, width=2000), device="cpu")
    assert "note: a new recipe after step 4: order was " in text.getvalue()
    assert "recipe.optimizer.lr was 0.002, now 0.0001" in text.getvalue()
    changes = read_record(out)["starts"][1]["changes"]
    assert changes["recipe.data.ratio"] == [[5, 1, 6], [1, 1, 1]]
    assert changes["recipe.steps"] == [4, 6]
    assert [line["step"] for line in read_metrics(out / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    # From there on it is that run: no flag is needed.
    assert train(other, Inputs(model, corpus, out), QUIET, device="cpu")
    for fixed in (replace(other, train=("llm",)), replace(other, optimizer=replace(other.optimizer, name="adamw"))):
        with pytest.raises(ValueError, match=r"recipe.(train|optimizer.name) was .*or choose another --out$"):
            train(fixed, inputs, QUIET, device="cpu")


def test_what_a_killed_save_leaves_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("step-000002", "step-000004.saving", "step-000006", "step-000008.deleting", "notes"):
        (tmp_path / name).mkdir()
        if name != "step-000006":
            (tmp_path / name / "state.json").write_text("{}")
    assert committed(tmp_path) == [(2, tmp_path / "step-000002")]
    assert committed(tmp_path / "nowhere") == []


def test_deterministic_algorithms_are_on_while_training(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen = []

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return accumulate(*args, **kwargs)

    monkeypatch.setattr(loop, "accumulate", noting)
    for number, wanted in enumerate((False, True)):
        recipe = little_recipe(3, steps=1, parallel=Parallel(mode="ddp", deterministic=wanted))
        train(recipe, Inputs(model, corpus, tmp_path / str(number)), QUIET, device="cpu")
    assert seen == [(False, None), (True, ":4096:8")]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
def test_resume_has_the_same_bits_on_a_gpu(model: Path, corpus: Path, tmp_path: Path) -> None:
    start = make_recipe()
    recipe = replace(start, precision="autocast", parallel=replace(start.parallel, deterministic=True))
    calm = tmp_path / "calm"
    assert train(recipe, Inputs(model, corpus, calm), QUIET, device="cuda")
    out = as_if_killed(calm, tmp_path / "run")
    assert train(recipe, Inputs(model, corpus, out), QUIET, device="cuda")
    assert curve(out) == curve(calm)
    before, after = weights(calm), weights(out)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_keeps_newest_and_milestones(model: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = little_recipe(1, steps=7, checkpoint=Checkpoint(every=1, keep=2, milestone_every=3))
    train(recipe, Inputs(model, corpus, tmp_path), QUIET, device="cpu")
    assert [step for step, _ in committed(tmp_path / "checkpoints")] == [3, 5, 6, 7]
    assert not list((tmp_path / "checkpoints").glob("step-*.*"))


def command(out: Path, model: Path, corpus: Path, *more: str) -> None:
    """The trainer as its command line starts it; ends the process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, whose children ignore it,
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or in the background of a script, whose ignore this
    words = f"train --stage 3 --preset tiny --model {model} --data {corpus} --out {out} --device cpu"
    words += " --data.corpus-stage 2 --data.sequences 4 --data.seq-len 64 --watch.log-every 1"
    sys.argv = [*words.split(), *more]
    sys.stderr = open(out.with_suffix(".log"), "a", buffering=1)  # noqa: SIM115 (the process ends with it)
    run(main)


def three_steps_in(out: Path, model: Path, corpus: Path) -> tuple[BaseProcess, int]:
    """A long run, in a process of its own, that has done three steps; and its process id."""
    process = CONTEXT.Process(target=command, args=(out, model, corpus, "--steps", "100000"))
    process.start()
    while len(read_metrics(out / "metrics.jsonl")) < 3:
        assert process.is_alive(), out.with_suffix(".log").read_text()
        time.sleep(0.02)
    assert process.pid is not None
    return process, process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_exits_zero(model: Path, corpus: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    process, pid = three_steps_in(out, model, corpus)
    os.kill(pid, number)
    process.join()
    assert process.exitcode == 0, out.with_suffix(".log").read_text()
    last = read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert [step for step, _ in committed(out / "checkpoints")] == [last]
    assert not (out / "model").exists()
    assert f"stopped after step {last}; the same command continues" in out.with_suffix(".log").read_text()


CONTROLLED = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_closed_terminal_saves(model: Path, corpus: Path, tmp_path: Path) -> None:
    """The kernel sends SIGHUP, and from then on writing to the terminal fails."""
    out = tmp_path / "run"
    terminal, inside = pty.openpty()
    words = f"-m janus.train --stage 3 --preset tiny --model {model} --data {corpus} --out {out} --device cpu "
    words += "--data.corpus-stage 2 --data.sequences 4 --data.seq-len 64 --watch.log-every 1 --steps 100000"
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLED, *words.split()], stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    while len(read_metrics(out / "metrics.jsonl")) < 3:
        assert process.poll() is None
        if select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(60) == 0
    last = read_metrics(out / "metrics.jsonl")[-1]["step"]
    assert [step for step, _ in committed(out / "checkpoints")] == [last]


def test_a_second_sigterm_changes_nothing(model: Path, corpus: Path, tmp_path: Path) -> None:
    """A scheduler signals every process of a job, and the launcher among them forwards its own signal."""
    out = tmp_path / "run"
    process, pid = three_steps_in(out, model, corpus)
    for _ in range(2):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.005)
    process.join()
    assert process.exitcode == 0, out.with_suffix(".log").read_text()
    assert len(committed(out / "checkpoints")) == 1


@pytest.mark.slow
def test_torchrun_passes_sigterm_on_and_the_run_continues(model: Path, corpus: Path, tmp_path: Path) -> None:
    """What a batch system does before its time limit: two processes save together, and the same command goes on."""
    words = "-m torch.distributed.run --standalone --nproc-per-node 2 --shutdown-timeout 120 -m janus.train --stage 3 "
    words += f"--preset tiny --model {model} --data {corpus} --data.corpus-stage 2 --device cpu --steps 150 "
    words += "--data.sequences 4 --data.seq-len 64 --data.micro-batch 1 --watch.log-every 1 --out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: Path) -> subprocess.Popen[bytes]:
        log = (tmp_path / "log").open("ab")
        return subprocess.Popen([sys.executable, *words.split(), out], env=environment, stdout=log, stderr=log)

    assert start(tmp_path / "calm").wait() == 0
    stopped = tmp_path / "stopped"
    process = start(stopped)
    while len(read_metrics(stopped / "metrics.jsonl")) < 3:
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    process.terminate()
    assert process.wait() == 1
    ((step, _),) = committed(stopped / "checkpoints")
    assert 3 <= step < 150
    assert curve(stopped)[-1]["step"] == step
    assert start(stopped).wait() == 0
    assert curve(stopped) == curve(tmp_path / "calm")


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
