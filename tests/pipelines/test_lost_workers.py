"""A worker process that is killed or stopped ends the build in one line, soon; nothing waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.engine import WorkerLost, is_retryable
from pipelines.engine.processes import PATIENCE_S, _check, _Worker

ROOT = Path(__file__).resolve().parents[2]
SLEEPY = """
import sys
from pathlib import Path
from janus.cli import run
from pipelines.engine import run_step
from schemas.spec import Operations
from tests.pipelines.steps_for_tests import Sleep
folder = Path(sys.argv[1])
run(lambda: run_step("sleep", Sleep(folder), [("s/0", 0), ("s/1", 1)], scratch=folder / "scratch",
                     operations=Operations(workers=2)))
"""


@pytest.fixture
def worker() -> Iterator[_Worker]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield _Worker(process, lambda error: None)
    process.kill()
    process.wait()


def until(worker: _Worker, stopped: bool) -> None:
    for _ in range(200):
        _check(worker, 0.0)
        if worker.stopped == stopped:
            return
        time.sleep(0.02)
    raise AssertionError(f"stopped is not {stopped}")


def test_a_killed_worker_is_lost_at_once(worker: _Worker) -> None:
    _check(worker, 100.0)
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(
        WorkerLost, match=rf"worker process {worker.process.pid} was killed, .*memory.*--workers"
    ) as lost:
        _check(worker, 0.0)
    assert is_retryable(lost.value)
    assert str(lost.value.at("measure", "s/3")).startswith(f"measure s/3: worker process {worker.process.pid} was")


def test_a_stopped_worker_is_lost_after_a_while(worker: _Worker) -> None:
    os.kill(worker.process.pid, signal.SIGSTOP)
    until(worker, stopped=True)
    _check(worker, PATIENCE_S - 0.5)
    os.kill(worker.process.pid, signal.SIGCONT)
    until(worker, stopped=False)
    _check(worker, PATIENCE_S - 0.5)
    os.kill(worker.process.pid, signal.SIGSTOP)
    until(worker, stopped=True)
    _check(worker, PATIENCE_S - 0.5)
    with pytest.raises(WorkerLost, match="was stopped by a signal"):
        _check(worker, 0.5)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 15)", "ended with signal SIGTERM"),
    ],
)
def test_a_crash_is_told_with_its_code(code: str, says: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    process.wait()
    with pytest.raises(WorkerLost, match=says):
        _check(_Worker(process, lambda error: None), 0.0)


def test_a_worker_that_ended_well_may_be_a_moment_ahead_of_its_pipeline() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    worker = _Worker(process, lambda error: None)
    _check(worker, PATIENCE_S - 0.5)
    with pytest.raises(WorkerLost, match="exit code 0"):
        _check(worker, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "says"), [(signal.SIGKILL, "was killed, most often by"), (signal.SIGSTOP, "was stopped by a signal")]
)
def test_a_build_ends_in_one_line(tmp_path: Path, sent: int, says: str) -> None:
    build = subprocess.Popen(
        [sys.executable, "-c", SLEEPY, str(tmp_path)], cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True
    )
    try:
        while len(workers := list(tmp_path.glob("*.pid"))) < 2:
            assert build.poll() is None
            time.sleep(0.1)
        lost = int(workers[0].stem)
        os.kill(lost, sent)
        _, error = build.communicate(timeout=60)
    finally:
        build.kill()
    assert build.returncode == 1
    (line,) = error.splitlines()
    assert line.startswith("error: sleep s/")
    assert f"worker process {lost} {says}" in line
    for path in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.stem), 0)
    assert list((tmp_path / "scratch").iterdir()) == []
