"""Checkpoints and records that are not what was written, a second start, a full disk."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from janus.model.checkpoints.model_folder import load_janus
from janus.train import checkpoint, loop
from janus.train.checkpoint import check_files, committed
from janus.train.checkpoint_model import checkpoint_to_model
from janus.train.failures import in_one_line
from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.recipe import Checkpoint, Recipe
from janus.train.record import Inputs, find_start
from janus.train.run_lock import run_lock
from janus.train.step import accumulate
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks, start_ranks
from tests.train.steps import ALONE, QUIET

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def saving_recipe() -> Recipe:
    """Six steps of stage 3, saved after each second."""
    return little_recipe(3, steps=6, checkpoint=Checkpoint(every=2, keep=9))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: Path, corpus: Path) -> Path:
    """Run folder of a finished run."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert train(saving_recipe(), Inputs(model, corpus, out), QUIET, device="cpu")
    return out


@pytest.fixture
def killed(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that died while it wrote the model."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model")
    return out


def flip(file: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    """The last byte goes."""
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES: tuple[Callable[[Path], None], ...] = (flip, cut, Path.unlink)


@pytest.mark.parametrize("damage", DAMAGES, ids=["flip", "cut", "delete"])
def test_every_damaged_file_sends_the_run_back_to_the_checkpoint_before(
    killed: Path, model: Path, corpus: Path, damage: Callable[[Path], None]
) -> None:
    newest = killed / "checkpoints" / "step-000006"
    names = sorted(file.name for file in newest.iterdir())
    assert len(names) == 2
    for name in names:
        shutil.copytree(newest, saved := killed / "saved")
        damage(newest / name)
        start = find_start(Inputs(model, corpus, killed))
        assert start.step == 4
        assert start.checkpoint == newest.with_name("step-000004")
        (note,) = start.notes
        assert str(newest / name) in note
        assert note.endswith("; going back to step 4")
        assert newest.with_name("step-000006.damaged").is_dir()
        shutil.rmtree(newest.with_name("step-000006.damaged"))
        saved.rename(newest)
    assert find_start(Inputs(model, corpus, killed)).step == 6


def test_a_damaged_checkpoint_is_never_trained_on(killed: Path, finished: Path, model: Path, corpus: Path) -> None:
    for step in (4, 6):
        (shard,) = (killed / "checkpoints" / f"step-{step:06d}").glob("*.safetensors")
        flip(shard)
    text = io.StringIO()
    assert train(saving_recipe(), Inputs(model, corpus, killed), Console(file=text, width=400), device="cpu")
    assert text.getvalue().count("; going back to step 2") == 2
    assert "continuing after step 2" in text.getvalue()
    expected, found = (load_janus(run / "model")[0].state_dict() for run in (finished, killed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    # What was found damaged stays, under a name that is no checkpoint's.
    assert [step for step, _ in committed(killed / "checkpoints")] == [2, 4, 6]
    assert sorted(path.name for path in (killed / "checkpoints").glob("*.damaged")) == [
        "step-000004.damaged",
        "step-000006.damaged",
    ]


def test_no_whole_checkpoint_is_one_line(killed: Path, model: Path, corpus: Path) -> None:
    for _, path in committed(killed / "checkpoints"):
        flip(path / "state.json")
    with pytest.raises(ValueError, match=r"step-000006/state.json: .*; no checkpoint in .* is whole") as caught:
        train(saving_recipe(), Inputs(model, corpus, killed), QUIET, device="cpu")
    assert "\n" not in str(caught.value)
    assert len(committed(killed / "checkpoints")) == 3


def test_what_was_added_or_is_of_an_older_version_is_named(killed: Path) -> None:
    path = killed / "checkpoints" / "step-000006"
    (path / "shard-00002-model-00001-of-00001.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"step-000006/shard-00002\S+: not part of the checkpoint"):
        check_files(path)
    (path / "state.json").write_text(json.dumps({"step": 6, "identity": {}}))
    with pytest.raises(ValueError, match=r"step-000006/state.json: no digest: written by an older version"):
        check_files(path)


def test_a_damaged_checkpoint_is_not_exported(killed: Path, tmp_path: Path) -> None:
    (shard,) = (killed / "checkpoints" / "step-000006").glob("*.safetensors")
    flip(shard)
    with pytest.raises(ValueError, match=r"step-000006/\S+: damaged: its content is not what was written"):
        checkpoint_to_model(killed, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert checkpoint_to_model(killed, tmp_path / "model", step=4) == 4


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_broken_record_is_named(killed: Path, model: Path, corpus: Path, content: str) -> None:
    (killed / "recipe.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{killed}/recipe.json: ") as caught:
        train(saving_recipe(), Inputs(model, corpus, killed), QUIET, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_second_start_is_refused_and_changes_nothing(killed: Path, model: Path, corpus: Path) -> None:
    before = read_metrics(killed / "metrics.jsonl")
    (saving := killed / "checkpoints" / "step-000008.saving").mkdir()
    with run_lock(killed):
        said = rf"^{killed}: process {os.getpid()} on \S+ is training in this run"
        with pytest.raises(ValueError, match=said) as caught:
            train(saving_recipe(), Inputs(model, corpus, killed), QUIET, device="cpu")
        assert "\n" not in str(caught.value)
    assert read_metrics(killed / "metrics.jsonl") == before
    assert saving.is_dir()
    assert train(saving_recipe(), Inputs(model, corpus, killed), QUIET, device="cpu")


FULL = """
import sys
from pathlib import Path
from rich.console import Console
import torch
from janus.cli import run
from janus.train.loop import train
from janus.train.record import Inputs
from tests.train.test_damage import saving_recipe

def main():
    model, corpus, out = map(Path, sys.argv[1:])
    train(saving_recipe(), Inputs(model, corpus, out), Console(quiet=True), device="cpu")

run(main)
"""


def fill_and_train(size: str, model: Path, corpus: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Train into a file system of so many bytes, which only that process sees."""
    folder.mkdir()
    script = folder.parent / "full.py"
    script.write_text(FULL)
    command = f"mount -t tmpfs -o size={size} none {folder} && {sys.executable} {script} {model} {corpus} {folder}/run"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"{command}; code=$?; ls {folder}/run/checkpoints; exit $code"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("needs a file system of its own (unshare, mount)")
    return done


def test_a_full_disk_is_one_line(model: Path, corpus: Path, finished: Path, tmp_path: Path) -> None:
    one = sum(file.stat().st_size for file in (finished / "checkpoints" / "step-000002").iterdir())
    done = fill_and_train(str(2 * one + one // 2), model, corpus, tmp_path / "disk")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "cannot write the checkpoint of step 6: " in done.stderr
    assert "No space left on device" in done.stderr
    assert done.stderr.endswith("; the newest whole one is of step 4\n")
    assert done.stdout.split() == ["step-000002", "step-000004"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_known_by_whatever_a_library_makes_of_it(error: Exception, tmp_path: Path) -> None:
    said = rf"^{tmp_path}: the disk is full .*the same command continues$"
    with pytest.raises(ValueError, match=said), in_one_line(tmp_path, ALONE):
        raise error
    with pytest.raises(RuntimeError, match=r"^a bug$"), in_one_line(tmp_path, ALONE):
        raise RuntimeError("a bug")


def fail_to_write(*args: object) -> None:
    raise OSError(28, "No space left on device", "shard.safetensors")


def train_on_a_full_disk(inputs: Inputs) -> str:
    """What one of two processes says when rank 0 cannot write."""
    torch.set_num_threads(1)
    checkpoint.write_file = fail_to_write  # type: ignore[assignment]
    try:
        train(saving_recipe(), inputs, QUIET, device="cpu")
    except (ValueError, SystemExit) as error:
        return str(error)
    return "done"


@pytest.mark.slow
def test_a_full_disk_ends_all_processes(model: Path, corpus: Path, tmp_path: Path) -> None:
    answers = run_ranks(2, train_on_a_full_disk, Inputs(model, corpus, tmp_path / "run"))
    assert "cannot write the checkpoint of step 2: No space left on device (shard.safetensors)" in answers[0]
    assert answers[1] == "1" or "lost another process of this run" in answers[1]


def train_beside_one_that_dies(inputs: Inputs) -> str:
    """What a process says whose neighbour dies in the second step, as one that ran out of memory would."""
    torch.set_num_threads(1)
    steps = iter(range(99))

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(steps) == 1 and os.environ["RANK"] == "1":
            os._exit(9)
        return accumulate(*args, **kwargs)

    loop.accumulate = dying
    try:
        train(saving_recipe(), inputs, QUIET, device="cpu")
    except ValueError as error:
        return str(error)
    return "done"


@pytest.mark.slow
def test_the_death_of_a_process_is_one_line_of_the_others(model: Path, corpus: Path, tmp_path: Path) -> None:
    started = start_ranks(2, train_beside_one_that_dies, Inputs(model, corpus, tmp_path / "run"))
    (first, answer), (second, _) = started
    assert answer.poll(120)
    ok, said = pickle.loads(answer.recv_bytes())  # noqa: S301 (our own test process)
    first.join()
    second.join()
    assert ok
    assert said.startswith("process 0 of 2 lost another process of this run, whose own lines say why")
    assert "\n" not in said
    assert second.exitcode == 9
