"""The command line: a corpus from a TOML file, errors in one line, help without the heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.manifest import load_snapshot
from tests.pipelines.world import image_folder

SPEC = """
name = "small"
stage = 1
shard_rows = 8
models = {{ janus = "{{model}}" }}

[[sources]]
name = "photos"
format = "image_folder"
path = "{{here}}/photos"
task = "{task}"
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "pipelines.build", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def test_help_and_verify_import_nothing_heavy() -> None:
    code = (
        "import sys, pipelines.build, pipelines.verify\n"
        "sys.exit(', '.join({'torch', 'transformers', 'apache_beam', 'open_clip', 'PIL'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_corpus_from_a_spec_file(model: Path, tmp_path: Path) -> None:
    image_folder(tmp_path / "photos", [*range(10), "x" * 8])
    (tmp_path / "spec.toml").write_text(SPEC.format(task="generation"))
    done = command(tmp_path / "spec.toml", "--corpus", tmp_path / "c", "--set", f"model={model}")
    assert done.returncode == 0, done.stderr
    snapshot = load_snapshot(tmp_path / "c")
    assert done.stdout.splitlines() == [
        "photos: rows 11, kept 11",
        f"{tmp_path}/c/snapshots/{snapshot.name}.json: 11 rows in 2 shards",
    ]


@pytest.mark.parametrize(
    ("task", "arguments", "says"),
    [
        ("generation", [], "variable {model} has no value; give it with --set model=..."),
        ("generation", ["--set", "model"], "--set model: expected NAME=VALUE"),
        ("painting", ["--set", "model=x"], "sources.0.task"),
        ("generation", ["--set", "model=x", "--engine"], "--engine"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, task: str, arguments: list[str], says: str) -> None:
    (tmp_path / "spec.toml").write_text(SPEC.format(task=task))
    done = command(tmp_path / "spec.toml", "--corpus", tmp_path / "c", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
