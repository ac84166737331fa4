from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import children

SLEEPER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
PARENT = """
import sys, time
from pathlib import Path
from flows import children
children.start("sleeper", log=Path(sys.argv[1]))
time.sleep(60)
"""


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that starts a child of its own, prints both process ids and sleeps; returns the log it prints to."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "log"


def pids(log: Path) -> list[int]:
    for _ in range(200):
        if log.is_file() and log.read_text().strip():
            return [int(word) for word in log.read_text().split()]
        time.sleep(0.05)
    raise AssertionError("the child did not start")


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds (a zombie whose parent has not looked yet has ended)."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_child_and_its_children_die_with_a_killed_parent(sleeper: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(sleeper)])
    running = pids(sleeper)
    assert not any(Path(f"/proc/{pid}").exists() is False for pid in running)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(pid) for pid in running)


def test_stop_ends_the_child_and_its_children(sleeper: Path) -> None:
    child = children.start("sleeper", log=sleeper)
    running = pids(sleeper)
    children.stop(child)
    assert child.returncode == -signal.SIGTERM
    assert all(gone(pid) for pid in running)
    children.stop(child)  # a second time does nothing


def test_output_and_exit_code_are_the_modules_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "speaker.py").write_text("import sys; print('said', sys.argv[1:], repr(sys.stdin.read())); sys.exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = children.start("speaker", ["a", "b c"], log=tmp_path / "log", env={"X": "1"})
    assert child.wait(20) == 3
    assert (tmp_path / "log").read_text() == "said ['a', 'b c'] ''\n"
    assert os.environ.get("X") is None
    children.stop(child)
