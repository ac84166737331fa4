"""Plan: read what the sources say and cut it into shards of rows (no pixel yet).

A refresh reads the whole source again and keeps what its parent snapshot does not know; that is cheap next to any
later step. Rows that vanish from a source stay in the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import ledger
from pipelines.shardio import uid_array, write_table
from pipelines.sources import read_source
from pipelines.steps.context import Build, Shard
from pipelines.steps.prefetch import chunks
from schemas.digest import canonical_json, digest
from schemas.layers import ROWS
from schemas.manifest import ShardManifest
from schemas.sample import Sample
from schemas.spec import Source

VERSION = 1
SHARD_DIGITS = 16


def recipe(source: Source, shard_rows: int) -> ledger.Recipe:
    """What the rows of a source depend on, besides its content. Its path is not among it: data may move."""
    config = source.model_dump(mode="json", include={"format", "options", "task", "limit", "licence"})
    return ledger.Recipe("rows", VERSION, {**config, "shard_rows": shard_rows})


@dataclass(frozen=True)
class PlanWork:
    """One source to read."""

    source: Source
    known: tuple[str, ...]
    """Paths of the rows shards that the parent snapshot has of this source."""


@dataclass(frozen=True)
class PlanStep:
    """Reads one source and commits its new rows shards; returns their paths."""

    corpus: Path
    shard_rows: int

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: PlanWork, advance: Callable[[int], None]) -> list[str]:
        """Cut the rows that `work.known` does not hold into shards, in source order, in constant memory.

        Constant but for 16 bytes per known row.
        """
        paths: dict[str, None] = {}
        fresh = self._unknown(work)
        for rows in chunks(fresh, self.shard_rows):
            manifest = self._commit(work.source, rows, taken=paths)
            paths[ledger.path_of(manifest)] = None
            advance(len(rows))
        return list(paths)

    def _unknown(self, work: PlanWork) -> Iterator[Sample]:
        known = known_uids(self.corpus, work.known)
        for chunk in chunks(read_source(work.source), 1024):
            for sample in chunk:
                if sample.task != work.source.task:
                    raise ValueError(
                        f"row {sample.key}: the reader gave task {sample.task}, the spec says {work.source.task}"
                    )
            if len(known):
                uids = np.array([sample.uid for sample in chunk], dtype="S16")
                at = np.searchsorted(known, uids).clip(max=len(known) - 1)
                yield from (sample for sample, old in zip(chunk, known[at] == uids, strict=True) if not old)
            else:
                yield from chunk

    def _commit(self, source: Source, samples: Sequence[Sample], taken: dict[str, None]) -> ShardManifest:
        rows = sorted((_row(sample) for sample in samples), key=lambda row: canonical_json(_sortable(row)))
        rows.sort(key=lambda row: (row["uid"], row["key"]))
        how = recipe(source, self.shard_rows)
        uids = [row["uid"].hex() for row in rows]
        inputs = {"source": digest([_sortable(row) for row in rows])}
        name = digest(uids)[:SHARD_DIGITS]
        repeat = 0
        while ledger.shard_path("rows", source.name, name, how.key(inputs)) in taken:
            # The same rows once more in one source: count them again instead of losing them.
            repeat += 1
            name = digest([*uids, repeat])[:SHARD_DIGITS]
        path = ledger.shard_path("rows", source.name, name, how.key(inputs))
        if (done := ledger.find(self.corpus, path)) is not None:
            return done
        written = write_table(self.corpus / path, "rows", pa.Table.from_pylist(rows, schema=ROWS))
        return ledger.commit(
            self.corpus,
            how,
            source=source.name,
            task=source.task,
            shard=name,
            inputs=inputs,
            written=written,
            counts={"rows": len(rows)},
        )


def _row(sample: Sample) -> dict[str, Any]:
    return {
        "uid": sample.uid,
        "key": sample.key,
        "messages": [message.model_dump() for message in sample.messages],
        "images": [image.model_dump() for image in sample.images],
        "licence": sample.licence,
    }


def _sortable(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "uid": row["uid"].hex()}


def known_uids(corpus: Path, paths: Sequence[str]) -> np.ndarray:
    """Sorted uids of some rows shards: bytes16[N]. Raises ShardError if one is missing or damaged."""
    parts = []
    for path in paths:
        _, reader = ledger.open_input(corpus, path)
        parts.append(uid_array(reader.table(["uid"]).column("uid")))
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype="S16")


def plan(build: Build) -> list[Shard]:
    """Every rows shard of the corpus to be: those inherited from the parent snapshot, and the new ones.

    A source whose settings changed is planned anew; shards that come out the same are found again by their content.
    """
    inherited: dict[str, list[Shard]] = {source.name: [] for source in build.spec.sources}
    generations: dict[str, int] = {}
    configs = {source.name: recipe(source, build.spec.shard_rows).config_digest for source in build.spec.sources}
    for entry in build.parent.shards if build.parent else ():
        if entry.source not in inherited:
            continue
        manifest = ledger.load_manifest(build.corpus, entry.upstream["rows"])
        generations[entry.upstream["rows"]] = entry.generation
        if manifest.config == configs[entry.source]:
            inherited[entry.source].append(_shard(manifest, entry.generation))
    works = [
        (source.name, PlanWork(source, tuple(shard.path("rows") for shard in inherited[source.name])))
        for source in build.spec.sources
    ]
    new = build.run("plan", PlanStep(build.corpus, build.spec.shard_rows), works)
    shards = [shard for group in inherited.values() for shard in group]
    for paths in new:
        for path in paths:
            manifest = ledger.load_manifest(build.corpus, path)
            shards.append(_shard(manifest, generations.get(path, build.number)))
    # The order in which sources are listed, or finish, leaves no trace.
    return sorted(shards, key=lambda shard: (shard.source, shard.generation, shard.path("rows")))


def _shard(manifest: ShardManifest, generation: int) -> Shard:
    return Shard(manifest.source, manifest.task, manifest.shard, generation, {"rows": manifest})
