"""Progress for people."""

from __future__ import annotations

import io
import re
import sys

import pytest

from pipelines.engine.bars import shown
from pipelines.engine.driver import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_time_passed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "150")
    with shown() as on_progress:
        on_progress(Progress("plan", 1, 4, 2048, 0))
        on_progress(Progress("plan", 4, 4, 8192, 1))
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue().split("\r")[-1])
    assert "4/4 shards, 8,192 rows, 1 failed" in last
    assert last.rstrip().endswith("0:00:00 left 0:00:00")


def test_elsewhere_a_line_now_and_then_and_at_the_end_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as on_progress:
        for shards in range(5):
            on_progress(Progress("plan", shards, 4, 10 * shards, 0))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["plan: 0 of 4 shards, 0 rows", "plan: 4 of 4 shards, 40 rows"]
