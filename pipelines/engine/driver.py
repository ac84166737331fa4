"""The driver: runs a step over shards on the engine, shows how far it is, and counts what comes back."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.engine.failures import DiskFull, Failure, StepFailed, WorkerLost
from pipelines.engine.journal import Journals
from pipelines.engine.processes import WorkerProcesses
from pipelines.engine.quiet import broken_connections_untold, quiet_beam
from pipelines.engine.runners import create, local_processes, runner
from pipelines.engine.shard_run import Item, ShardStep, Work
from pipelines.lifeline import exit_with
from schemas.spec import Operations
from storage.places import Place, below
from storage.store import Store

POLL_S = 0.25
"""Seconds between two looks at what the workers have reported."""
UNWIND_S = 5.0
"""Seconds that Beam's threads get to end after a lost worker. They keep nothing that matters."""


@dataclass(frozen=True)
class Progress:
    """How far a step is."""

    step: str
    shards: int
    total_shards: int
    rows: int
    """Rows finished, rows of shards in flight included."""
    failed: int
    """Shards that raised."""


OnProgress = Callable[[Progress], None]


class _Watch:
    """Reads the journals while the pipeline runs, and tells what is new."""

    def __init__(self, step: str, journals: Journals, total: int, on_progress: OnProgress | None) -> None:
        self._step, self._journals, self._total, self._on_progress = step, journals, total, on_progress
        self._last: Progress | None = None

    def poll(self) -> None:
        if self._on_progress is None:
            return
        found = self._journals
        found.read(now=False)
        progress = Progress(self._step, len(found.results), self._total, found.rows, found.failed)
        if progress != self._last:
            self._on_progress(progress)
            self._last = progress


def run_pipeline(
    construct: Callable[[Any], None], operations: Operations, while_running: Callable[[], None], *, processes: int = 1
) -> None:
    """Build a Beam pipeline with `construct(pipeline)` and run it to its end, polling `while_running` meanwhile.

    Args:
        construct: adds the transforms.
        operations: names the engine.
        while_running: called a few times a second in this thread.
        processes: of the local engine; other engines decide themselves.

    Raises DiskFull if a worker met a full disk outside of any shard, and WorkerLost if a process of the local engine
    was killed or stopped.
    """
    quiet_beam()
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    workers = WorkerProcesses()
    beam_runner, options = runner(operations, processes, workers)
    pipeline = beam.Pipeline(runner=beam_runner, options=PipelineOptions(options))
    construct(pipeline)
    # FnApiRunner.run() blocks, so it runs beside us. The other runners only submit the job in run(), and those that
    # start a server set a signal handler there, which Python allows in the main thread alone.
    submitted = None if operations.engine == "local" else pipeline.run()

    def execute() -> None:
        try:
            (submitted or pipeline.run()).wait_until_finish()
        except BaseException as error:
            raised.append(error)

    raised: list[BaseException] = []
    thread = threading.Thread(target=execute, name="beam", daemon=True)
    with broken_connections_untold() if processes > 1 else contextlib.nullcontext():
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                workers.check()
                while_running()
        except BaseException as error:  # Ctrl-C too
            workers.kill(RuntimeError(str(error)))
            thread.join(UNWIND_S)
            raise
    if raised:
        if os.strerror(errno.ENOSPC) in str(raised[0]):
            raise DiskFull("no space left on the disk of the corpus; free some and build again") from None
        raise raised[0]


def run_step(
    name: str,
    step: ShardStep[Work],
    items: Sequence[tuple[str, Work]],
    *,
    scratch: Place,
    operations: Operations,
    light_rows: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Any]:
    """Run `step` on every (name, work) and return the results in that order.

    Args:
        name: of the step, for messages and progress.
        step: what to do; see ShardStep.
        items: shard descriptors with a name for messages.
        scratch: for result files; every worker must see it.
        operations: engine and workers.
        light_rows: for a step that does little per row: how many rows there are. Worker processes take seconds to
            start, so the local engine starts none for a few rows.
        on_progress: called from this thread a few times a second.

    Raises:
        StepFailed: some shards raised; every other shard was processed.
        WorkerLost: a process of the local engine was killed or stopped; shards that were done stay done.
        RuntimeError: results are missing although the engine reported success.
    """
    elements = [Item(index, label, work) for index, (label, work) in enumerate(items)]
    if not elements:
        return []
    processes = local_processes(operations, len(elements), light_rows)
    with run_folder_in(scratch, name) as run_folder:

        def construct(pipeline: Any) -> None:
            import apache_beam as beam

            from pipelines.engine.dofn import ShardDoFn

            shards = pipeline | f"{name} shards" >> create(elements, operations, processes)
            _ = shards | name >> beam.ParDo(ShardDoFn(step, run_folder, exit_with()))

        journals = Journals(run_folder)
        watch = _Watch(name, journals, len(elements), on_progress)
        try:
            run_pipeline(construct, operations, watch.poll, processes=processes)
        except WorkerLost as lost:
            journals.read()
            shard = journals.in_flight(lost.pid)
            raise lost.at(name, None if shard is None else elements[shard].name) from None
        journals.read()
        watch.poll()
        return collect(name, elements, journals)


@contextlib.contextmanager
def run_folder_in(scratch: Place, name: str) -> Iterator[Store]:
    """A fresh place for the result and progress files of one run, emptied at its end."""
    run = below(scratch, f"{name}-{uuid.uuid4().hex}")
    if run.folder is not None:
        run.folder.mkdir(parents=True)
    try:
        yield run
    finally:
        if run.folder is not None:
            shutil.rmtree(run.folder, ignore_errors=True)
        else:
            for entry in run.list():
                run.delete(entry.key)


def collect(name: str, elements: Sequence[Item[Any]], journals: Journals) -> list[Any]:
    """The results of `elements` in order. Raises as `run_step` does."""
    values: list[Any] = []
    failures: list[Failure] = []
    for item in elements:
        result = journals.results.get(item.index)
        if result is None:
            raise RuntimeError(f"{name}: the engine returned no result for {item.name}; {len(elements)} shards went in")
        if "failure" in result:
            told = (result[key] for key in ("failure", "expected", "retryable", "details"))
            failures.append(Failure(item.name, *told))
        else:
            values.append(result["value"])
    if failures:
        for failure in failures:
            level = logging.DEBUG if failure.expected else logging.ERROR
            logging.getLogger(__name__).log(level, "%s %s\n%s", name, failure.name, failure.details)
        raise StepFailed(name, failures, len(elements))
    return values
