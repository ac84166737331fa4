"""The Beam side of a shard step. Imported where Beam is: by the engine when it runs, and on the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from pipelines.engine.shard_run import Item, ShardStep, run_one
from pipelines.lifeline import Lifeline
from storage.store import Store


class ShardDoFn(beam.DoFn):
    """Runs a step on shard descriptors. Emits nothing: the step writes its shard, `run_one` its result."""

    def __init__(self, step: ShardStep[Any], run_folder: Store, lifeline: Lifeline) -> None:
        self._step = step
        self._run_folder = run_folder
        self._lifeline = lifeline
        self._broken: Exception | None = None

    def setup(self) -> None:
        """Once per worker: tie it to the build, load models."""
        self._lifeline.hold()
        try:
            self._step.setup()
        except Exception as error:
            # Told with each shard: Beam would wrap it in fifty lines of its own.
            self._broken = error

    def process(self, element: Item[Any]) -> Iterator[None]:
        """Do one shard."""
        run_one(self._run, element, self._run_folder)
        yield from ()

    def _run(self, work: Any, advance: Callable[[int], None]) -> Any:
        if self._broken is not None:
            raise self._broken
        return self._step.run(work, advance)
