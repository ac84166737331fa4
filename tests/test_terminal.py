"""What commands print of names, answers and files of others: text, and nothing that steers a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import janus.chat
import janus.evaluate.__main__
import pipelines.build
import pipelines.verify
from janus.cli import run
from janus.model.checkpoints.model_folder import load_janus
from janus.model.inference.answering import stream_answer
from schemas.sample import Message
from tests.evaluate.worlds import write_lines, write_model
from tests.pipelines.world import image_folder, picture

ESC = "\x1b[2J\x07\u202e\x9b31m[red]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("terminal") / "janus")


def printed(main: Callable[[], object], *arguments: object) -> str:
    """Everything a command writes to the terminal."""
    out, before = io.StringIO(), sys.argv
    sys.argv = ["command", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
            run(main)  # type: ignore[arg-type]
    finally:
        sys.argv = before
    return out.getvalue()


def check(text: str) -> None:
    assert all(line.isprintable() for line in text.replace("\t", "").split("\n")), text


def spec(folder: Path, model: Path) -> Path:
    file = folder / "spec.toml"
    source = (
        f'name = "s"\nformat = "image_folder"\npath = "{folder}/photos"\ntask = "generation"\nmax_unreadable = 1.0\n'
    )
    file.write_text(f'name = "x"\nstage = 2\n[models]\njanus = "{model}"\n[[sources]]\n{source}')
    return file


def test_a_build_and_its_verification(tmp_path: Path, model: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])
    picture(3).save(photos / f"{ESC}.png")
    with (photos / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"image": f"{ESC}.png", "caption": ESC}) + f"\n{ESC}\n")
    corpus = tmp_path / ESC
    said = printed(pipelines.build.main, spec(tmp_path, model), "--corpus", corpus)
    assert "rows in" in said, said
    check(said)
    (corpus / "rows" / "s" / f"{ESC}.json").write_text("{")
    (corpus / "snapshots" / f"00009-{ESC}.json").write_text("{")
    said = printed(pipelines.verify.main, corpus)
    assert r"\x1b[2J\x07\u202e\x9b31m[red]" in said
    check(said)
    (corpus / "LATEST").write_text(f"00001-{ESC}")
    said = printed(pipelines.build.main, spec(tmp_path, model), "--corpus", corpus)
    assert said.startswith("error: ")
    check(said)


def test_an_answer_of_a_model(model: Path) -> None:
    """A model of bytes and random weights says control characters."""
    options = {"max_new_tokens": 60, "temperature": 1.5}
    janus_, processor = load_janus(model)
    raw = "".join(stream_answer(janus_, processor, [Message(role="user", text="x")], [], **options))
    assert not all(line.isprintable() for line in raw.split("\n"))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    said = printed(janus.chat.main, model, "--ask", "x", "--device", "cpu", *words)
    check(said)


def test_an_evaluation_of_hostile_questions(tmp_path: Path, model: Path) -> None:
    picture(0).save(tmp_path / f"{ESC}.png")
    write_lines(tmp_path / "q.jsonl", [{"image": f"{ESC}.png", "text": ESC, "label": 2, "id": ESC}])
    words = ("--model", model, "--out", tmp_path / ESC, "--benchmarks", "counting", "--device", "cpu")
    said = printed(janus.evaluate.__main__.main, *words, "--counting.questions", tmp_path / "q.jsonl")
    assert "WARNING" in said or "counting" in said
    check(said)
    (tmp_path / f"{ESC}.png").write_bytes(b"no picture")
    said = printed(
        janus.evaluate.__main__.main, *words[:-2], "--counting.questions", tmp_path / "q.jsonl", "--limit", 1
    )
    check(said)
