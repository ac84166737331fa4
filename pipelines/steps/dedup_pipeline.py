"""The Beam side of dedup: candidates by shard → GroupByKey on small keys → matched groups, counted on both sides."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from pipelines.engine import Item, collect, create, local_processes, run_folder_in, run_one, run_pipeline
from pipelines.lifeline import Lifeline, exit_with
from pipelines.steps.context import Build
from pipelines.steps.dedup import CANDIDATE, ROWS_PER_PARTITION, DedupWork, Duplicate, candidates, combine, match, parts
from schemas.files import write_file
from schemas.spec import Dedup

Key = tuple[str, int, int]
"""Task, band (-1: exact), partition."""


class CandidatesDoFn(beam.DoFn):
    """Signals shard → packed candidates under the keys of the groups they belong to."""

    def __init__(self, corpus: Path, dedup: Dedup, partitions: int, run_folder: Path, lifeline: Lifeline) -> None:
        self._corpus, self._dedup, self._partitions = corpus, dedup, partitions
        self._run_folder, self._lifeline = run_folder, lifeline

    def setup(self) -> None:
        """Tie the worker to the build."""
        self._lifeline.hold()

    def process(self, element: Item[DedupWork]) -> Iterator[tuple[Key, bytes]]:
        """One shard; a failure is recorded and the shard emits nothing."""
        emitted: list[tuple[Key, bytes]] = []

        def run(work: DedupWork, advance: Callable[[int], None]) -> list[list[Any]]:
            found, near = candidates(self._corpus, work)
            emitted.extend(parts(found, near, work.task, self._dedup, self._partitions))
            return [[*key, len(data) // CANDIDATE.itemsize] for key, data in emitted]

        run_one(run, element, self._run_folder)
        yield from emitted


class MatchDoFn(beam.DoFn):
    """One group → its losers and close pairs, as a file."""

    def __init__(self, radius: int | None, run_folder: Path) -> None:
        self._radius, self._run_folder = radius, run_folder

    def process(self, element: tuple[Key, Iterable[bytes]]) -> Iterator[None]:
        """Compare the rows of one group."""
        (task, band, partition), packed = element
        buffer = io.BytesIO()
        np.savez(buffer, **match(band, packed, self._radius))  # type: ignore[arg-type]
        write_file(self._run_folder / f"{task}.{band}.{partition}.npz", buffer.getvalue())
        yield from ()


def find_duplicates(build: Build, works: Sequence[tuple[str, DedupWork]], rows: int) -> dict[int, list[Duplicate]]:
    """Duplicates by shard index among the shards in `works` (label, work), which hold `rows` rows.

    Raises StepFailed if shards could not be read, RuntimeError if the engine lost rows between the two sides.
    """
    dedup = build.spec.dedup
    partitions = 1 + rows // ROWS_PER_PARTITION
    processes = local_processes(build.operations, len(works), rows)
    elements = [Item(index, label, work) for index, (label, work) in enumerate(works)]
    with run_folder_in(build.scratch, "dedup") as run_folder:

        def construct(pipeline: Any) -> None:
            emit = CandidatesDoFn(build.corpus, dedup, partitions, run_folder, exit_with())
            grouped = (
                pipeline
                | "dedup shards" >> create(elements, build.operations, processes)
                | "candidates" >> beam.ParDo(emit)
                | "meet" >> beam.GroupByKey()
            )
            _ = grouped | "match" >> beam.ParDo(MatchDoFn(dedup.near_radius, run_folder))

        run_pipeline(construct, build.operations, lambda: None, processes=processes)
        sent: Counter[Key] = Counter()
        for emitted in collect("dedup", elements, run_folder):
            for task, band, partition, count in emitted:
                sent[task, band, partition] += count
        groups = {key: _load(run_folder, key) for key in sorted(sent)}
    for key, arrays in groups.items():
        if (arrived := int(arrays["rows"]) if arrays else 0) != sent[key]:
            raise RuntimeError(f"dedup: {sent[key]} rows went into group {key}, {arrived} came out of the engine")
    return combine((key[0], key[1], arrays) for key, arrays in groups.items())


def _load(run_folder: Path, key: Key) -> dict[str, np.ndarray]:
    path = run_folder / "{}.{}.{}.npz".format(*key)
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
