"""The engine: nothing is lost, one shard's failure is its own, and the engine is always named."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.engine import LIGHT_ROWS, Failure, Progress, StepFailed, is_retryable, run_step
from pipelines.engine.driver import collect
from pipelines.engine.journal import Journals, append
from pipelines.engine.runners import local_processes
from pipelines.engine.shard_run import Item
from schemas.spec import Operations
from tests.pipelines.steps_for_tests import FailsOnce, NoModel, Square


def run(scratch: Path, step: Any, count: int = 8, **options: Any) -> list[Any]:
    items = [(f"s/{n}", n) for n in range(count)]
    return run_step("square", step, items, scratch=scratch, operations=Operations(), **options)


def test_results_come_in_the_order_of_the_items(tmp_path: Path) -> None:
    seen: list[Progress] = []
    results = run(tmp_path, Square(), on_progress=seen.append)
    assert [result["square"] for result in results] == [n * n for n in range(8)]
    assert seen[-1] == Progress("square", shards=8, total_shards=8, rows=28, failed=0)
    assert [p.shards for p in seen] == sorted(p.shards for p in seen)
    assert list(tmp_path.iterdir()) == [], "the run folder is gone"


def test_a_failing_shard_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Progress] = []
    with caplog.at_level(logging.ERROR), pytest.raises(StepFailed) as error:
        run(tmp_path, Square(failing=True), on_progress=seen.append)
    assert seen[-1] == Progress("square", shards=8, total_shards=8, rows=28, failed=2)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("square: 2 of 8 shards failed")
    assert lines[1:] == ["  s/3: three is not wanted", "  s/5: ZeroDivisionError: five"]
    assert "Traceback" in caplog.text, "a bug keeps its traceback in the log"
    assert "three is" not in caplog.text, "a user error does not"
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_cannot_be_set_up_fails_in_one_line_per_shard(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as error:
        run(tmp_path, NoModel(), count=2)
    assert str(error.value).splitlines()[1:] == ["  s/0: model: no such file", "  s/1: model: no such file"]


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (RuntimeError("CUDA out of memory"), True),
        (ValueError("bad data"), False),
        (FileNotFoundError("no such file"), False),
        (PermissionError("not yours"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_a_failed_shard_says_whether_trying_again_may_help(tmp_path: Path, error: Exception, retryable: bool) -> None:
    assert is_retryable(error) == retryable
    with pytest.raises(StepFailed) as failed:
        run(tmp_path / "scratch", FailsOnce(error, tmp_path), count=2)
    assert is_retryable(failed.value) == retryable
    assert run(tmp_path / "scratch", FailsOnce(error, tmp_path), count=2) == [0, 1]


def test_one_shard_worth_another_try_is_enough() -> None:
    bad, passing = (Failure("s/0", "m", True, retryable, "") for retryable in (False, True))
    assert not is_retryable(StepFailed("x", [bad, bad], 9))
    assert is_retryable(StepFailed("x", [bad, passing], 9))


def test_a_result_that_the_engine_lost_is_an_error(tmp_path: Path) -> None:
    append(tmp_path, {"shard": 0, "rows": 1, "value": 1})
    journals = Journals(tmp_path)
    journals.read()
    with pytest.raises(RuntimeError, match=r"no result for s/1; 2 shards went in"):
        collect("square", [Item(0, "s/0", 0), Item(1, "s/1", 1)], journals)


@pytest.mark.parametrize("engine", ["DirectRunner", "direct", "DaskRunner", ""])
def test_engines_that_lose_data_are_not_offered(tmp_path: Path, engine: str) -> None:
    with pytest.raises(ValueError, match="choose local, prism, flink, spark, dataflow"):
        run_step("x", Square(), [("s/0", 0)], scratch=tmp_path, operations=Operations(engine=engine))


def test_processes_are_started_only_where_they_pay() -> None:
    four = Operations(workers=4)
    assert local_processes(four, shards=9, light_rows=None) == 4
    assert local_processes(four, shards=3, light_rows=None) == 3
    assert local_processes(four, shards=9, light_rows=100) == 1
    assert local_processes(four, shards=9, light_rows=LIGHT_ROWS) == 4


WORKERS = """
import sys
from pathlib import Path
from pipelines.engine import run_step
from schemas.spec import Operations
from tests.pipelines.steps_for_tests import Square
results = run_step("square", Square(), [(f"s/{n}", n) for n in range(8)], scratch=Path(sys.argv[1]),
                   operations=Operations(workers=2))
print([r["square"] for r in results], len({r["pid"] for r in results}))
"""


@pytest.mark.slow
def test_two_processes_do_the_work_and_say_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path)], capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("] ") == [str([n * n for n in range(8)])[:-1], "2\n"]
