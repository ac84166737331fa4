"""The command line: typed overrides of a preset, one line for mistakes, quick help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from janus.cli import UserError, run
from janus.train.__main__ import main, read_command
from janus.train.presets import recipe

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
def test_mistakes_are_one_line(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_command([*words.split(), *PATHS])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_paths_are_named() -> None:
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
