"""Running a step over many shards on a named Beam engine (design D4).

One Beam element is one shard descriptor; the step reads and writes the shard's files itself, in one fused DoFn, so no
pixel ever crosses a shuffle. An exception in one shard is recorded and the others go on. Results and progress come
back as small files in a run folder, which works on every engine that shares the corpus folder with this process, and
shows progress although `FnApiRunner.run()` blocks. What went in and what came out is counted: a result that is missing
is an error, whatever the engine said.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shlex
import shutil
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from janus.cli import USER_ERRORS
from pipelines.lifeline import exit_with
from pipelines.quiet import quiet_beam
from schemas.digest import canonical_json
from schemas.spec import Operations

ENGINES = {"prism": "PrismRunner", "flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}
"""Engines beyond this process and its children, by Beam's name for them. DirectRunner (falls back silently),
multi_threading (loses elements) and DaskRunner (skips branches) are left out on purpose: docs/pipelines.md."""

POLL_S = 0.25
LIGHT_ROWS = 500_000
"""Rows that one process decides over or summarises in about the time that others take to start."""

Work = TypeVar("Work", contravariant=True)


class ShardStep(Protocol[Work]):
    """What runs on a worker. Pickled by reference to its module, so it lives in an importable one."""

    def setup(self) -> None:
        """Load models, once per worker."""

    def run(self, work: Work, advance: Callable[[int], None]) -> Any:
        """Do one shard and return a small JSON value. `advance(n)` reports n more rows done."""


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


@dataclass(frozen=True)
class Failure:
    """A shard that raised."""

    name: str
    message: str
    """One line, for users."""
    expected: bool
    """A ValueError or OSError: what data, disks and people cause. Anything else is a bug."""
    lasting: bool
    """Of a kind that trying again cannot mend; see `is_lasting`."""
    details: str
    """Traceback."""


class DiskFull(ValueError):
    """The disk of the corpus has no space left."""


class StepFailed(ValueError):
    """Some shards of a step failed; all others are committed. The message names each, one line each."""

    def __init__(self, step: str, failures: Sequence[Failure], total: int) -> None:
        self.failures = tuple(failures)
        lines = "\n".join(f"  {failure.name}: {failure.message}" for failure in failures)
        super().__init__(
            f"{step}: {len(failures)} of {total} shards failed, the others are done; "
            f"build again to retry only these:\n{lines}"
        )


def is_lasting(error: BaseException) -> bool:
    """Whether somebody must mend what raised `error`: a wrong spec, bad data, a file that is not there, a full disk.

    What may pass (a file system that hiccups, a GPU out of memory, a lost worker) is worth another try. Shards that
    failed are worth it if one of them is.
    """
    if isinstance(error, StepFailed):
        return all(failure.lasting for failure in error.failures)
    return isinstance(error, USER_ERRORS) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


@dataclass(frozen=True)
class Item(Generic[Work]):
    """One element of the pipeline."""

    index: int
    name: str
    """For messages: source and shard."""
    work: Work


def write_result(path: Path, data: bytes) -> None:
    """Put a small file into a run folder at once: readers see all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_bytes(data)
    os.replace(temporary, path)


class Reporter:
    """Writes the rows done of one shard to the run folder, at most four times a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = 0
        self._next = 0.0

    def __call__(self, rows: int) -> None:
        """Count `rows` more rows as done."""
        self._rows += rows
        if time.monotonic() >= self._next:
            write_result(self._path, canonical_json(self._rows))
            self._next = time.monotonic() + POLL_S

    @property
    def rows(self) -> int:
        """Rows reported so far."""
        return self._rows


def run_one(run: Callable[[Work, Callable[[int], None]], Any], item: Item[Work], run_folder: Path) -> None:
    """Call `run(work, advance)` for one item and leave its result or its failure in the run folder."""
    reporter = Reporter(run_folder / f"{item.index}.rows")
    result: dict[str, Any]
    try:
        result = {"value": run(item.work, reporter)}
    except Exception as error:
        expected = isinstance(error, ValueError | OSError)
        message = " ".join(str(error).split()) or type(error).__name__
        result = {
            "failure": message if expected else f"{type(error).__name__}: {message}",
            "expected": expected,
            "lasting": is_lasting(error),
            "details": traceback.format_exc(),
        }
    write_result(run_folder / f"{item.index}.json", canonical_json({"rows": reporter.rows, **result}))


class _Watch:
    """Reads the run folder while the pipeline runs."""

    def __init__(self, step: str, run_folder: Path, total: int, on_progress: OnProgress | None) -> None:
        self._step, self._folder, self._total, self._on_progress = step, run_folder, total, on_progress
        self._done: dict[str, dict[str, Any]] = {}
        self._last: Progress | None = None

    def poll(self) -> None:
        if self._on_progress is None:
            return
        in_flight = 0
        for path in self._folder.iterdir():
            if path.name.startswith("."):
                continue
            if path.suffix == ".json" and path.stem not in self._done:
                self._done[path.stem] = json.loads(path.read_bytes())
        for path in self._folder.glob("*.rows"):
            if path.stem not in self._done:
                in_flight += int(path.read_text())
        progress = Progress(
            step=self._step,
            shards=len(self._done),
            total_shards=self._total,
            rows=in_flight + sum(result["rows"] for result in self._done.values()),
            failed=sum("failure" in result for result in self._done.values()),
        )
        if progress != self._last:
            self._on_progress(progress)
            self._last = progress


def _runner(operations: Operations, processes: int) -> tuple[Any, list[str]]:
    """Beam runner (or its name) and options. Raises ValueError for an engine we do not offer."""
    if operations.engine in ENGINES:
        return ENGINES[operations.engine], [*operations.engine_options]
    if operations.engine != "local":
        raise ValueError(f"engine {operations.engine!r}: choose local, {', '.join(ENGINES)}")
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.transforms.environments import SubprocessSDKEnvironment

    options = [*operations.engine_options, "--direct_running_mode=in_memory", f"--direct_num_workers={processes}"]
    if processes == 1:
        return FnApiRunner(), options
    # What direct_running_mode=multi_processing does, with a quiet worker. The mode must then stay at its default:
    # the other one would put Beam's environment in place of ours.
    command = f"{shlex.quote(sys.executable)} -m pipelines.worker"
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(command)), options


def run_pipeline(
    construct: Callable[[Any], None], operations: Operations, while_running: Callable[[], None], *, processes: int = 1
) -> None:
    """Build a Beam pipeline with `construct(pipeline)` and run it to its end, polling `while_running` meanwhile.

    Args:
        construct: adds the transforms.
        operations: names the engine.
        while_running: called a few times a second in this thread.
        processes: of the local engine; other engines decide themselves.

    Raises DiskFull if a worker met a full disk outside of any shard.
    """
    quiet_beam()
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    runner, options = _runner(operations, processes)
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
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
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        while_running()
    while_running()
    if raised:
        if os.strerror(errno.ENOSPC) in str(raised[0]):
            raise DiskFull("no space left on the disk of the corpus; free some and build again") from None
        raise raised[0]


def run_step(
    name: str,
    step: ShardStep[Work],
    items: Sequence[tuple[str, Work]],
    *,
    scratch: Path,
    operations: Operations,
    light_rows: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Any]:
    """Run `step` on every (name, work) and return the results in that order.

    Args:
        name: of the step, for messages and progress.
        step: what to do; see ShardStep.
        items: shard descriptors with a name for messages.
        scratch: folder for result files; every worker must see it.
        operations: engine and workers.
        light_rows: for a step that does little per row: how many rows there are. Worker processes take seconds to
            start, so the local engine starts none for a few rows.
        on_progress: called from this thread a few times a second.

    Raises:
        StepFailed: some shards raised; every other shard was processed.
        RuntimeError: results are missing although the engine reported success.
    """
    elements = [Item(index, label, work) for index, (label, work) in enumerate(items)]
    if not elements:
        return []
    processes = local_processes(operations, len(elements), light_rows)
    with run_folder_in(scratch, name) as run_folder:

        def construct(pipeline: Any) -> None:
            import apache_beam as beam

            from pipelines.dofn import ShardDoFn

            shards = pipeline | f"{name} shards" >> create(elements, operations, processes)
            _ = shards | name >> beam.ParDo(ShardDoFn(step, run_folder, exit_with()))

        watch = _Watch(name, run_folder, len(elements), on_progress)
        run_pipeline(construct, operations, watch.poll, processes=processes)
        return collect(name, elements, run_folder)


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


@contextlib.contextmanager
def run_folder_in(scratch: Path, name: str) -> Iterator[Path]:
    """A fresh folder for the result and progress files of one run, removed at its end."""
    folder = scratch / f"{name}-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect(name: str, elements: Sequence[Item[Any]], run_folder: Path) -> list[Any]:
    """Read the results of `elements` in order. Raises as `run_step` does."""
    results: list[Any] = []
    failures: list[Failure] = []
    for item in elements:
        path = run_folder / f"{item.index}.json"
        if not path.is_file():
            raise RuntimeError(f"{name}: the engine returned no result for {item.name}; {len(elements)} shards went in")
        result = json.loads(path.read_bytes())
        if "failure" in result:
            failures.append(Failure(item.name, *(result[key] for key in ("failure", "expected", "lasting", "details"))))
        else:
            results.append(result["value"])
    if failures:
        for failure in failures:
            level = logging.DEBUG if failure.expected else logging.ERROR
            logging.getLogger(__name__).log(level, "%s %s\n%s", name, failure.name, failure.details)
        raise StepFailed(name, failures, len(elements))
    return results
