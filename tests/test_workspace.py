"""The workspace file: commands as they are typed, on a little model and little corpora in place of the demo's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import janus.chat
import janus.export
import janus.generate
from demo.steps import plan
from janus.cli import UserError, pairs
from janus.train.__main__ import main, read_command
from janus.workspace import find_workspace, needed_model
from schemas.spec import load_spec
from tests.conftest import REPOSITORY
from tests.data.make import MadeSource
from tests.train.little import write_corpus, write_model

CONTENT = """
preset = "tiny"
model = "base"
corpora = "corpora"
[specs]
3 = "specs/three.toml"
[variables]
world = "{here}/world"
clip = "openai"
[serve]
"shapes.test:80" = "world/http"
"""
SOURCES = (
    MadeSource("photos", "understanding", 8),
    MadeSource("texts", "text", 8),
    MadeSource("classes", "generation", 8, group="imagenet"),
    MadeSource("drawings", "generation", 8),
)
Typed = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: an empty folder with a workspace file."""
    (tmp_path / "janus-forge.toml").write_text(CONTENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Run a command's main in this process."""

    def typed(main: Callable[[], int | None], *words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["command", *words])
        assert not main()

    return typed


def test_it_is_found_from_below_and_its_paths_lead_from_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_workspace()
    assert found is not None
    assert (found.file, found.model, found.corpora) == ("janus-forge.toml", "base", "corpora")
    (folder / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(folder / "a" / "b")
    found = find_workspace()
    assert found is not None
    assert found.model == "../../base"
    assert found.run_folder("tiny", 2) == Path("../../runs/tiny/stage2")
    assert found.spec(3) == "../../specs/three.toml"
    assert found.serve == {"shapes.test:80": "../../world/http"}
    (folder / "base").mkdir()
    (folder / "base" / "config.json").touch()
    given = {"clip": "x"}
    assert found.settled(given) == {"world": "../../world", "clip": "x", "janus": "../../base"}
    with pytest.raises(UserError, match=r"\.\./janus-forge.toml names none for stage 1$"):
        found.spec(1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle = 'x'", "janus-forge.toml: modle: no such setting (did you mean model?)"),
        ("model = 3", "janus-forge.toml: model: Input should be a valid string"),
        ("file = 'x'", "janus-forge.toml: file: no such setting"),
        ("[specs]\n4 = 'x'", "janus-forge.toml: specs.4"),
        ("model =", "janus-forge.toml: not valid TOML: "),
    ],
)
def test_mistakes_in_it_are_one_line(folder: Path, content: str, message: str) -> None:
    (folder / "janus-forge.toml").write_text(content)
    with pytest.raises(ValueError, match=r"\S") as caught:
        find_workspace()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_one_points_at_what_make_demo_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    found = find_workspace()
    assert found is not None
    steps = {step.name: step.arguments for step in plan(Path("runs/demo"), 1, 0)}

    def after(step: str, option: str) -> str:
        return steps[step][steps[step].index(option) + 1]

    assert (found.preset, found.model) == (after("train1", "--preset"), after("train1", "--model"))
    assert found.benchmarks == after("evaluate", "--data")
    build = list(steps["corpora"])
    variables = pairs([[word for word in build if word.partition("=")[0] in ("world", "janus", "clip")]], "--set")
    assert {"janus": found.model, **found.variables} == variables
    assert found.serve == pairs([[after("corpora", "--serve")]], "--serve")
    assert list(found.specs.values()) == build[1:4]
    assert [load_spec(found.spec(stage), variables).stage for stage in (1, 2, 3)] == [1, 2, 3]


def test_what_is_missing_is_named_with_the_command_that_makes_it(folder: Path) -> None:
    words = ["--stage", "2"]
    missing = (
        "corpora: no corpus of stage 2; build it with `prefect deployment run build-stage2-corpus` or "
        "`python -m flows.corpus build SPEC`, or name another with --data"
    )
    with pytest.raises(FileNotFoundError) as caught:
        read_command(words)
    assert str(caught.value) == missing
    data = [*words, "--data", "d"]
    with pytest.raises(
        FileNotFoundError, match=r"^runs/tiny/stage1/model: no model of stage 1; train it with `python "
    ):
        read_command(data)
    with pytest.raises(
        FileNotFoundError, match=r"^base: no model there, which janus-forge.toml names; `make demo` lea"
    ):
        read_command([*data, "--stage", "1"])
    with pytest.raises(FileNotFoundError, match=r"^runs/tiny: no trained model; train one with `python -m janus.train"):
        needed_model("no model")
    (folder / "janus-forge.toml").unlink()
    with pytest.raises(UserError, match=r"^no model, and there is no janus-forge.toml here or in a folder above"):
        needed_model("no model")


def test_the_command_line_wins_and_then_a_config(folder: Path) -> None:
    write_model(folder / "base")
    write_corpus(folder / "corpora" / "one", folder / "base", SOURCES, stage=1)
    (folder / "run.toml").write_text('model = "m"\nout = "o"\n[recipe]\npreset = "mini"\n')
    start = ["--stage", "1"]
    plain = read_command(start)
    assert [str(value) for value in (plain.model, plain.data, plain.out)] == ["base", "corpora/one", "runs/tiny/stage1"]
    assert plain.note == "by janus-forge.toml: preset tiny, data corpora/one, model base, out runs/tiny/stage1"
    config = read_command([*start, "--config", "run.toml"])
    assert [str(value) for value in (config.model, config.data, config.out)] == ["m", "corpora/one", "o"]
    assert (config.recipe.preset, config.note) == ("mini", "by janus-forge.toml: data corpora/one")
    told = read_command([*start, "--config", "run.toml", "--out=p", "--data", "d", "--preset", "tiny"])
    assert [str(value) for value in (told.model, told.data, told.out)] == ["m", "d", "p"]
    assert (told.recipe.preset, told.note) == ("tiny", "")
    assert read_command([*start, "--preset", "mini"]).out == Path("runs/mini/stage1")


def test_the_newest_corpus_of_the_stage_is_taken(folder: Path) -> None:
    write_model(folder / "base")
    for age, (name, stage) in enumerate((("b", 1), ("a", 1), ("c", 2), ("old", 1))):
        write_corpus(folder / "corpora" / name, folder / "base", SOURCES[:1], stage=stage)
        os.utime(folder / "corpora" / name / "LATEST", (1000 - age, 1000 - age))
    assert read_command(["--stage", "1"]).data == "corpora/b"
    os.utime(folder / "corpora" / "a" / "LATEST", (2000, 2000))
    assert read_command(["--stage", "1"]).data == "corpora/a"
    assert read_command(["--stage", "1", "--data.corpus-stage", "2"]).data == "corpora/c"
    (folder / "corpora" / "a" / "LATEST").write_text("00009-gone")
    with pytest.raises(FileNotFoundError, match=r"00009-gone\.json: no such snapshot"):
        read_command(["--stage", "1"])


def test_three_stages_as_they_are_typed_and_what_follows(
    folder: Path, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(folder / "base")
    short = ["--steps", "1", "--data.sequences", "2", "--data.seq-len", "64", "--device", "cpu"]
    for stage in (1, 2, 3):
        write_corpus(folder / "corpora" / f"made{stage}", folder / "base", SOURCES, stage=stage)
        typed(main, "--stage", str(stage), *short)
        before = f"runs/tiny/stage{stage - 1}/model" if stage > 1 else "base"
        card = capsys.readouterr().err
        assert f"data corpora/made{stage}, model {before}, out runs/tiny/stage{stage}" in " ".join(card.split())
        assert (folder / f"runs/tiny/stage{stage}/model/model.safetensors").is_file()
    # A run that has begun goes on with its own corpus, whatever was published since.
    write_corpus(folder / "corpora" / "newer", folder / "base", SOURCES[:1], stage=3)
    typed(main, "--stage", "3", *short)
    assert str(folder / "corpora" / "made3") in "".join(capsys.readouterr().err.split("\n"))

    typed(janus.generate.main, "w7 w8", "--cfg-scale", "1", "--device", "cpu")
    assert "model by janus-forge.toml: runs/tiny/stage3/model" in capsys.readouterr().err
    assert (folder / "pictures" / "00000-w7-w8-0.png").is_file()
    typed(janus.chat.main, "--ask", "w9", "--max-new-tokens", "1", "--device", "cpu")
    typed(janus.export.main, "--out", "exported")
    assert (folder / "exported" / "config.json").is_file()


def test_the_first_word_is_the_model_only_where_it_can_be_one(folder: Path) -> None:
    (folder / "runs/tiny/stage2/model").mkdir(parents=True)
    (folder / "runs/tiny/stage2/model/config.json").touch()
    (folder / "mine").mkdir()
    trained = "runs/tiny/stage2/model"
    for words, model, expected in (
        (("a red fish",), "", (trained, ("a red fish",), "plain")),
        (("fish", "w"), "", (trained, ("fish", "w"), "plain")),
        (("mine", "fish"), "", ("mine", ("fish",), "chat")),
        (("org/name", "fish"), "", ("org/name", ("fish",), "chat")),
        (("cats and/or dogs",), "", (trained, ("cats and/or dogs",), "plain")),
        (("mine", "fish"), "other", ("other", ("mine", "fish"), "chat")),
    ):
        command, template = janus.generate.choose_model(janus.generate.Generate(words, model))
        assert (command.model, command.words, template) == expected
