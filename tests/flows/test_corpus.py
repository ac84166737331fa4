"""The command line: `python -m flows.corpus`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.corpus import Command, summary
from janus import cli
from pipelines.build import Command as BuildCommand
from schemas.manifest import Fingerprints, Snapshot, load_snapshot
from schemas.spec import load_spec
from tests.pipelines.test_prism import prism
from tests.pipelines.world import contents

ROOT = Path(__file__).parents[2]
BUILD = [sys.executable, "-m", "flows.corpus", "build"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BUILD, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.toml"], "nowhere.toml: no such corpus spec"),
        ([str(ROOT / "examples/photo-folder.toml"), "--set", "photos=p"], "variable {janus} has no value"),
        ([str(ROOT / "examples/photo-folder.toml"), "--set", "photos"], "--set photos: expected NAME=VALUE"),
        ([str(ROOT / "examples/photo-folder.toml"), "--serve", "http"], "--serve http: expected HOST:PORT=FOLDER"),
        (["--workers", "many", "x.toml"], "many"),
        (["--workers", "0", "x.toml"], "--workers 0: Input should be greater than or equal to 1"),
        ([], "no corpus spec given"),
    ],
)
def test_mistakes_are_one_line_and_start_nothing(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_loads_neither_prefect_nor_beam_nor_torch() -> None:
    code = (
        "import sys\n"
        "from flows import corpus\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n    corpus.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('prefect', 'apache_beam', 'torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "--keep-last" in done.stdout


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command of README, docs and specs that builds a corpus, with the file it stands in."""
    for path in sorted(path for pattern in DOCUMENTED for path in ROOT.glob(pattern)):
        text = re.sub(r"\\\n[# ]*", " ", path.read_text())
        for module, words in re.findall(r"python -m (flows\.corpus build|pipelines\.build) (.*)", text):
            yield path.relative_to(ROOT).as_posix(), [*module.split(), *shlex.split(words, comments=True)]


DOCUMENTED = ("README.md", "docs/*.md", "examples/*.toml", "flows/corpora/*.toml")
COMMAND_LINES = list(command_lines())


@pytest.mark.parametrize(
    ("file", "words"), COMMAND_LINES, ids=[f"{file} {number}" for number, (file, _) in enumerate(COMMAND_LINES)]
)
def test_documented_commands_are_understood_and_give_every_variable(
    file: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    module, *arguments = words
    if module == "flows.corpus":
        several = cli.parse(Command, prog=module, args=arguments)
        specs, values = several.specs, several.set
    else:
        one = cli.parse(BuildCommand, prog=module, args=arguments)
        specs, values = (str(one.spec),), one.set
    assert specs
    for spec in specs:
        load_spec(spec, cli.pairs(values, "--set"))


def test_every_spec_of_the_paper_says_how_to_build_it() -> None:
    built = {words[2] for file, words in COMMAND_LINES if file.startswith("flows/corpora/")}
    assert built == {path.relative_to(ROOT).as_posix() for path in (ROOT / "flows/corpora").glob("*.toml")}


def test_options_may_be_given_several_times() -> None:
    words = ["build", "a.toml", "--set", "a=1", "b=2", "--set", "c=3", "--serve", "x:80=X", "--serve", "y:80=Y"]
    words += ["--resolve", "x:80", "127.0.0.1:1", "--resolve", "y:80", "127.0.0.1:2"]
    words += ["--engine-options=--prism_location=P", "--engine-options=--environment_type=LOOPBACK"]
    command = cli.parse(Command, prog="", args=words)
    assert cli.pairs(command.set, "--set") == {"a": "1", "b": "2", "c": "3"}
    assert cli.pairs(command.serve, "--serve") == {"x:80": "X", "y:80": "Y"}
    assert command.operations.resolve == {"x:80": "127.0.0.1:1", "y:80": "127.0.0.1:2"}
    assert command.operations.engine_options == ("--prism_location=P", "--environment_type=LOOPBACK")


def test_summary_says_where_rows_went_or_that_there_was_nothing_to_do() -> None:
    prints = Fingerprints(
        tokenizer="t", image_processor="i", vq="v", image_size=64, understanding_tokens=16, generation_tokens=16,
        codebook_size=8, pixels="jpeg",
    )  # fmt: skip
    snapshot = Snapshot(
        corpus="c", stage=1, number=1, parent=None, spec="s", fingerprints=prints, shards=(), licences={},
        length_histogram={},
        funnel={"a": {"rows": 5, "kept": 2, "too_small": 3}, "b": {"rows": 2, "kept": 1, "http_gone": 1}},
    )  # fmt: skip
    spec = load_spec(ROOT / "examples/imagenet-folder.toml", {"imagenet": "x", "janus": "y"})
    line = summary(Path("out"), spec, snapshot, None, 1.23)
    assert "3 of 7 rows kept (http_gone 1, too_small 3), 1.2 s, in out/imagenet-folder" in line
    assert "nothing to do" in summary(Path("out"), spec, snapshot, snapshot.name, 1.23)


@pytest.mark.slow
def test_a_build_that_is_killed_ends_with_the_same_bytes(
    spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path
) -> None:
    variables = ["--set", f"photos={photos}", "--set", f"janus={tiny_janus}"]
    whole = run(str(spec), "--out", "whole", *variables, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "10 of 12 rows kept (missing_file 1, too_small 1)" in whole.stdout
    assert whole.stderr == ""  # no warning, no log line

    child = subprocess.Popen([*BUILD, str(spec), "--out", "killed", *variables], cwd=tmp_path, stdout=subprocess.PIPE)
    manifests = tmp_path / "killed" / "photos" / "raw"
    deadline = time.monotonic() + 300
    while not list(manifests.rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert run(str(spec), "--out", "killed", *variables, cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "killed" / "photos") == contents(tmp_path / "whole" / "photos")

    again = run(str(spec), "--out", "killed", *variables, cwd=tmp_path)
    assert f"nothing to do, {load_snapshot(tmp_path / 'killed' / 'photos').name} is up to date" in again.stdout


@pytest.mark.slow
def test_an_error_inside_a_flow_is_one_line(spec: Path, tiny_janus: Path, tmp_path: Path) -> None:
    done = run(str(spec), "--out", "out", "--set", "photos=nowhere", f"janus={tiny_janus}", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere: no such file or folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_command_in_a_specs_header_gets_as_far_as_the_data(stage: int, tiny_janus: Path, tmp_path: Path) -> None:
    """The first thing that is missing is the data sets: everything before was given."""
    file = f"flows/corpora/stage{stage}.toml"
    (words,) = (words for where, words in COMMAND_LINES if where == file)
    assert words[2] == file
    values = {"DIR": "data", "FOLDER": str(tiny_janus), "WEIGHTS": "openai"}
    filled = [re.sub(r"\b(DIR|FOLDER|WEIGHTS)$", lambda match: values[match[0]], word) for word in words[3:]]
    done = run(str(ROOT / file), *filled, cwd=tmp_path)
    assert done.returncode == 1
    assert "imagenet: data/imagenet: no such file or folder" in done.stderr or stage == 3
    assert re.match(r"error: plan: (\d+) of \1 shards failed", done.stderr)


@pytest.mark.integration
def test_the_documented_options_build_on_prism(spec: Path, photos: Path, tiny_janus: Path, tmp_path: Path) -> None:
    variables = ["--set", f"photos={photos}", f"janus={tiny_janus}"]
    engine = re.search(r"--engine-options=\S+ --engine-options=[^` ]+", (ROOT / "docs/pipelines.md").read_text())
    assert engine is not None
    options = engine[0].replace("PATH", prism()).split()
    there = run(str(spec), "--out", "prism", "--engine", "prism", *options, *variables, cwd=tmp_path)
    assert there.returncode == 0, there.stderr
    assert run(str(spec), "--out", "local", *variables, cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "prism" / "photos") == contents(tmp_path / "local" / "photos")
