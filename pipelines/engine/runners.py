"""Which Beam runner an engine is, with which options, and how many processes are worth starting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.engine.processes import WorkerProcesses
from pipelines.engine.shard_run import Item
from schemas.spec import Operations

ENGINES = {"prism": "PrismRunner", "flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}
"""Engines beyond this process and its children, by Beam's name for them. DirectRunner (falls back silently),
multi_threading (loses elements) and DaskRunner (skips branches) are left out on purpose: docs/pipelines.md."""

LIGHT_ROWS = 500_000
"""Rows that one process decides over or summarises in about the time that others take to start."""


def runner(operations: Operations, processes: int, workers: WorkerProcesses) -> tuple[Any, list[str]]:
    """Beam runner (or its name) and options.

    Args:
        operations: names the engine.
        processes: of the local engine: 1 runs in this process, more start so many `workers`.
        workers: where the local engine's processes are started and watched.

    Raises ValueError for an engine that is not offered.
    """
    if operations.engine in ENGINES:
        return ENGINES[operations.engine], [*operations.engine_options]
    if operations.engine != "local":
        raise ValueError(f"engine {operations.engine!r}: choose local, {', '.join(ENGINES)}")
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    options = [*operations.engine_options, "--direct_running_mode=in_memory", f"--direct_num_workers={processes}"]
    if processes == 1:
        return FnApiRunner(), options
    from pipelines.engine.process_environment import ProcessEnvironment

    # The running mode must stay at its default: another puts Beam's environment in place of ours.
    return FnApiRunner(ProcessEnvironment(workers.key)), options


def local_processes(operations: Operations, shards: int, light_rows: int | None) -> int:
    """Processes that are worth their start-up, at most `operations.workers`."""
    if light_rows is not None and light_rows < LIGHT_ROWS:
        return 1
    return min(operations.workers, shards)


def create(elements: Sequence[Item[Any]], operations: Operations, processes: int) -> Any:
    """The transform that a pipeline starts with: its elements, spread over the workers where there are several.

    Spreading is a shuffle: of a few hundred bytes per shard, but it doubles the time an in-memory pipeline takes to set
    up.
    """
    import apache_beam as beam

    return beam.Create(elements, reshuffle=operations.engine != "local" or processes > 1)
