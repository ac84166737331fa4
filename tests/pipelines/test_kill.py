"""`kill -9` at any moment costs work, never a byte (design D3)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import load_snapshot
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.test_build import grow, world
from tests.pipelines.world import contents, folder_source, image_folder, spec

ROOT = Path(__file__).resolve().parents[2]


def torment(model: Path, folder: Path, kills: int) -> None:
    settings = spec(model, world(folder / "sources"), shard_rows=4)
    (folder / "spec.json").write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "tests.pipelines.torment", str(folder / "spec.json"), str(folder), str(kills), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] == kills
    expected = contents(folder / "undisturbed")
    for corpus in report["finished"]:
        assert contents(Path(corpus)) == expected, "not one byte differs, and nothing half-written is left"
        assert verify(corpus).differences == ()


def test_two_kills(model: Path, tmp_path: Path) -> None:
    torment(model, tmp_path, kills=2)


@pytest.mark.slow
def test_twenty_five_kills(model: Path, tmp_path: Path) -> None:
    torment(model, tmp_path, kills=25)


def kill_at(settings: CorpusSpec, corpus: Path, pattern: str) -> None:
    """Build until the file of that name is about to be put in place, then `kill -9`."""
    file = corpus.parent / "spec.json"
    file.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "tests.pipelines.kill_at", str(file), str(corpus), pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_kill_while_a_snapshot_is_written(model: Path, tmp_path: Path) -> None:
    settings = spec(model, [folder_source(image_folder(tmp_path / "photos", list(range(12))))])
    corpus = tmp_path / "c"
    kill_at(settings, corpus, "snapshots/*")
    assert len(list((corpus / "snapshots").iterdir())) == 1, "a file begun and not finished"
    assert verify(corpus).differences == (), "which is no snapshot"
    build(settings, corpus, Operations(keep_last=1))
    build(settings, tmp_path / "undisturbed", Operations())
    assert contents(corpus) == contents(tmp_path / "undisturbed")


def test_a_kill_between_a_snapshot_and_latest(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(12)))
    settings, corpus = spec(model, [folder_source(photos)]), tmp_path / "c"
    first = build(settings, corpus, Operations())
    grow(photos, [100])
    kill_at(settings, corpus, "LATEST")
    assert load_snapshot(corpus) == first
    grow(photos, [101])
    latest = build(settings, corpus, Operations())
    assert [path.name[:5] for path in sorted((corpus / "snapshots").iterdir())] == ["00001", "00002", "00002"]
    assert not list(corpus.glob(".tmp-*")), "the unfinished LATEST is gone"
    assert verify(corpus).differences == ()
    assert build(settings, corpus, Operations(keep_last=2)) == latest
    assert sorted(path.stem for path in (corpus / "snapshots").iterdir()) == [first.name, latest.name]
    assert verify(corpus).differences == ()


SLEEPY = """
import sys
from pathlib import Path
from pipelines.engine import run_step
from schemas.spec import Operations
from tests.pipelines.steps_for_tests import Sleep
folder = Path(sys.argv[1])
run_step("sleep", Sleep(folder), [("s/0", 0), ("s/1", 1)], scratch=folder / "scratch", operations=Operations(workers=2))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_workers_end_with_a_killed_build(tmp_path: Path) -> None:
    build = subprocess.Popen([sys.executable, "-c", SLEEPY, str(tmp_path)], cwd=ROOT, env=os.environ)
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 180), "both workers are at work"
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert build.pid not in workers
    assert wait_for(lambda: not any(alive(pid) for pid in workers), 10), "no worker outlives its build"
