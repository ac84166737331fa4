"""The command line: `python -m flows.corpus`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.corpus import pairs, summary
from janus.cli import UserError
from schemas.manifest import Fingerprints, Snapshot, load_snapshot
from schemas.spec import load_spec
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
        (["--workers", "many", "x.toml"], "many"),
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


def test_pairs_split_at_the_first_equals_sign() -> None:
    assert pairs(["a=b=c", "shapes.test:80=http"], "--set") == {"a": "b=c", "shapes.test:80": "http"}
    with pytest.raises(UserError, match="--serve =x: expected NAME=VALUE"):
        pairs(["=x"], "--serve")


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
    variables = ["--set", f"photos={photos}", f"janus={tiny_janus}"]
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
