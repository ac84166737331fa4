"""Runs whose process is killed, for real, and runs that only look so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows import crashed_runs

pytestmark = pytest.mark.usefixtures("prefect_server")

REFRESH = """
import sys
from flows.build import refresh_corpora
spec, out, photos, janus = sys.argv[1:]
refresh_corpora([spec], out, {"photos": photos, "janus": janus})
"""


@flow
def look(out: str) -> None:
    """Do what every build and refresh does first."""
    crashed_runs.claim(out)


@pytest.fixture
def refresh(
    prefect_server: str, spec: Path, photos: Path, tiny_janus: Path, out: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A refresh of one corpus in a process of its own."""
    words = [sys.executable, "-c", REFRESH, str(spec), str(out), str(photos), str(tiny_janus)]
    environment = {**os.environ, "PREFECT_API_URL": prefect_server}
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "corpora"


def runs(out: Path) -> set[UUID]:
    """The runs that have left a lock, locked or not."""
    return {UUID(path.name[:36]) for path in (out / crashed_runs.RUNS).glob("[!.]*")}


def states(of: set[UUID]) -> list[str | None]:
    with get_client(sync_client=True) as client:
        return [client.read_flow_run(run).state_name for run in of]


@pytest.mark.parametrize("started", [1, 2], ids=["refresh", "refresh and build"])
def test_killed_runs_are_marked_as_crashed_and_living_ones_are_not(
    refresh: subprocess.Popen[bytes], started: int, out: Path
) -> None:
    """At the first line of a refresh, when it has built nothing yet, and at that of its first build."""
    deadline = time.monotonic() + 120
    while len(runs(out)) < started and time.monotonic() < deadline:
        time.sleep(0.002)
    refresh.send_signal(signal.SIGSTOP)
    begun = runs(out)
    assert len(begun) == started
    look(str(out))
    assert states(begun) == ["Running"] * started
    refresh.kill()
    refresh.wait()
    assert states(begun) == ["Running"] * started
    look(str(out))
    assert states(begun) == ["Crashed"] * started
    assert not runs(out) & begun


def test_a_run_that_ended_well_stays_so(prefect_server: str, out: Path) -> None:
    words = [sys.executable, "-c", "import sys, flows.build; flows.build.refresh_corpora([], sys.argv[1])", str(out)]
    environment = {**os.environ, "PREFECT_API_URL": prefect_server}
    subprocess.run(words, env=environment, check=True, capture_output=True)
    ended = runs(out)
    look(str(out))
    assert states(ended) == ["Completed"]
    assert not runs(out) & ended


def test_a_run_of_another_server_is_left_to_that(out: Path) -> None:
    (out / crashed_runs.RUNS).mkdir(parents=True)
    stranger = out / crashed_runs.RUNS / f"{uuid.uuid4()}.{uuid.uuid4().hex}"
    stranger.touch()
    look(str(out))
    assert stranger.exists()


def test_foreign_files_are_left_alone_and_end_nothing(out: Path) -> None:
    folder = out / crashed_runs.RUNS
    folder.mkdir(parents=True)
    names = (".DS_Store", "notes.txt", "README", f"{uuid.uuid4()}.txt", f"{uuid.uuid4()}", "a.b.c")
    for name in names:
        (folder / name).touch()
    (folder / f"{uuid.uuid4()}.{uuid.uuid4().hex}").mkdir()
    look(str(out))
    assert all((folder / name).exists() for name in names)
