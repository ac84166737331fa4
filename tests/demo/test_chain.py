from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from demo.chain import Chain, Step, StepFailed, tree_digest
from demo.screen import Screen, duration, last_line

# Appends a line to its log file, then writes its input doubled; fails if told to.
WORKER = """
import pathlib, sys
source, out = map(pathlib.Path, sys.argv[1:3])
print("step 1 of 1")
if source.read_text() == "bad":
    sys.exit("error: the input is bad")
out.mkdir(parents=True, exist_ok=True)
(out / "half").write_text((out / "half").read_text() + "x" if (out / "half").exists() else "x")
if source.read_text() == "stop":
    sys.exit("error: stopped half way")
(out / "result").write_text(source.read_text() * 2)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "input").write_text("a")
    return tmp_path / "run"


def steps(run: Path, *, resumes: bool = False) -> list[Step]:
    """Two steps: the second reads what the first made. The first one's input is a file of its data."""
    source, first, second = run.parent / "input", run / "first", run / "second"
    return [
        Step("first", "First", "worker", (str(source), str(first)), first, data=(str(source),), resumes=resumes),
        Step("second", "Second", "worker", (str(first / "result"), str(second)), second, needs=("first",)),
    ]


def do(run: Path, *, resumes: bool = False) -> list[bool]:
    """Run both; returns whether each was reused."""
    chosen = steps(run, resumes=resumes)
    screen = Screen(Console(file=(run.parent / "screen").open("w")), [step.title for step in chosen])
    chain = Chain(run, screen)
    for order, step in enumerate(chosen):
        chain.do(step, order)
    return [reused for _, _, reused in screen._done]


def test_a_second_run_does_nothing(run: Path) -> None:
    assert do(run) == [False, False]
    assert (run / "second" / "result").read_text() == "aaaa"
    assert do(run) == [True, True]


def test_a_changed_input_redoes_what_depends_on_it(run: Path) -> None:
    do(run)
    (run.parent / "input").write_text("b")
    assert do(run) == [False, False]
    assert (run / "second" / "result").read_text() == "bbbb"
    assert (run / "first" / "half").read_text() == "x"  # the stale result was deleted first


def test_a_damaged_output_is_made_again_and_later_steps_are_kept(run: Path) -> None:
    do(run)
    (run / "first" / "result").write_text("damaged")
    assert do(run) == [False, True]  # the same bytes came out again
    assert (run / "second" / "result").read_text() == "aaaa"


def test_a_failed_command_is_reported_in_its_own_words(run: Path) -> None:
    (run.parent / "input").write_text("bad")
    with pytest.raises(StepFailed, match=r"^First: the input is bad \(all of its output: .*first.log\)$"):
        do(run)
    assert not (run / "steps" / "first.json").exists()


@pytest.mark.parametrize(("resumes", "halves"), [(True, "xx"), (False, "x")])
def test_an_interrupted_step_resumes_only_if_it_can(run: Path, resumes: bool, halves: str) -> None:
    source = run.parent / "input"
    source.write_text("stop")
    with pytest.raises(StepFailed):
        do(run, resumes=resumes)
    with pytest.raises(StepFailed):
        do(run, resumes=resumes)
    assert (run / "first" / "half").read_text() == halves
    source.write_text("a")  # other code: what is half made is of no use any more
    assert do(run, resumes=resumes) == [False, False]
    assert (run / "first" / "half").read_text() == "x"


def test_a_torn_record_is_no_record(run: Path) -> None:
    do(run)
    path = run / "steps" / "first.json"
    path.write_text(path.read_text()[:20])
    assert do(run) == [False, True]
    assert json.loads(path.read_text())["title"] == "First"


def test_tree_digest_sees_names_and_contents_but_not_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = tree_digest(tmp_path)
    (tmp_path / ".lock").write_text("")
    assert tree_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = tree_digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, tree_digest(tmp_path)}) == 3


def test_last_line_is_the_last_that_says_anything(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_text("first\n\x1b[31mstep 2\x1b[0m\rstep 3  \n\n")
    assert last_line(log) == "step 3"


def test_durations_for_people() -> None:
    shown = [duration(seconds) for seconds in (4.24, 59.94, 65.2, 600)]
    assert shown == ["4.2 s", "59.9 s", "1 min 05 s", "10 min 00 s"]
