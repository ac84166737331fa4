"""What a worker does for one shard: runs the step, and reports rows, result or failure in its journal."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipelines.engine.failures import is_retryable
from pipelines.engine.journal import append
from storage.store import Store

REPORT_S = 0.25
"""Seconds between reports of one shard's progress, at least."""

Work = TypeVar("Work", contravariant=True)


class ShardStep(Protocol[Work]):
    """What runs on a worker. Pickled by reference to its module, so it lives in an importable one."""

    def setup(self) -> None:
        """Load models, once per worker."""

    def run(self, work: Work, advance: Callable[[int], None]) -> Any:
        """Do one shard and return a small JSON value. `advance(n)` reports n more rows done."""


@dataclass(frozen=True)
class Item(Generic[Work]):
    """One element of the pipeline."""

    index: int
    name: str
    """For messages: source and shard."""
    work: Work


class Reporter:
    """Reports the rows done of one shard, a few times a second at most."""

    def __init__(self, run_folder: Store, shard: int) -> None:
        self._folder, self._shard = run_folder, shard
        self._next = 0.0
        self.rows = 0
        """Rows done."""

    def __call__(self, rows: int) -> None:
        """Count `rows` more rows as done."""
        self.rows += rows
        if time.monotonic() >= self._next:
            append(self._folder, {"shard": self._shard, "rows": self.rows})
            self._next = time.monotonic() + REPORT_S


def run_one(run: Callable[[Work, Callable[[int], None]], Any], item: Item[Work], run_folder: Store) -> None:
    """Call `run(work, advance)` for one item and leave its result or its failure in the journal."""
    append(run_folder, {"begin": item.index})
    reporter = Reporter(run_folder, item.index)
    result: dict[str, Any]
    try:
        result = {"value": run(item.work, reporter)}
    except Exception as error:
        expected = isinstance(error, ValueError | OSError)
        message = " ".join(str(error).split()) or type(error).__name__
        result = {
            "failure": message if expected else f"{type(error).__name__}: {message}",
            "expected": expected,
            "retryable": is_retryable(error),
            "details": traceback.format_exc(),
        }
    append(run_folder, {"shard": item.index, "rows": reporter.rows, **result})
