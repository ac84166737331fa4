"""Plan: read what the sources say and cut it into shards of rows (no pixel yet).

A refresh reads the whole source again and keeps what its parent snapshot does not know; that is cheap next to any
later step. Shards stay as they are: that a row of one was changed at the source, or is gone there, is a matter for
decide (`changes.py`). A shard that was damaged is made again from the source.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipelines import ledger
from pipelines.reading.account import Account
from pipelines.readings import write_reading
from pipelines.removal.entries import Entries
from pipelines.removal.match import Picture, Row, match
from pipelines.shardio import ShardError, write_table
from pipelines.sources import read_source
from pipelines.steps.changes import Changes, Superseded
from pipelines.steps.context import Build, Shard
from pipelines.steps.prefetch import chunks
from schemas.digest import canonical_json, digest
from schemas.layers import ROWS
from schemas.manifest import ShardManifest
from schemas.reasons import Drop
from schemas.sample import Sample
from schemas.spec import Source
from storage.store import Store

VERSION = 1
SHARD_DIGITS = 16


def step_spec(source: Source, shard_rows: int) -> ledger.StepSpec:
    """What the rows of a source depend on, besides its content. Its path is not among it: data may move."""
    names = {"format", "task", "limit", "licence", "where", "columns"}
    config = source.model_dump(mode="json", include=names, exclude_defaults=True)
    return ledger.StepSpec("rows", VERSION, {**config, "options": source.portable_options, "shard_rows": shard_rows})


@dataclass(frozen=True)
class Known:
    """A rows shard that the parent snapshot has."""

    path: str
    raw: str
    """Path of the raw shard made from it, which repeats its uids and keys."""


@dataclass(frozen=True)
class PlanWork:
    """One source to read."""

    source: Source
    known: tuple[Known, ...]
    taken_down: Entries
    """New rows that these name are not taken."""


@dataclass(frozen=True)
class PlannedShard:
    """A rows shard as it is to be: a function of its rows, and of the shards that have the same."""

    source: Source
    rows: list[dict[str, Any]]
    spec: ledger.StepSpec
    name: str
    inputs: dict[str, str]

    @property
    def path(self) -> str:
        """Of the shard file, relative to the corpus folder."""
        return ledger.shard_path("rows", self.source.name, self.name, self.spec.key(self.inputs))

    def commit(self, corpus: Store) -> None:
        """Write and commit the shard, unless it is there and whole: its name says so, its hash has to agree."""
        with contextlib.suppress(ShardError):
            ledger.open_input(corpus, self.path)
            return
        ledger.commit(
            corpus,
            self.spec,
            source=self.source.name,
            task=self.source.task,
            shard=self.name,
            inputs=self.inputs,
            written=write_table(corpus, self.path, ROWS, pa.Table.from_pylist(self.rows, schema=ROWS)),
            counts={"rows": len(self.rows)},
        )


def planned_shard(source: Source, shard_rows: int, samples: Iterable[Sample], taken: Container[str]) -> PlannedShard:
    """The shard of some rows of a source, under a name that is not among the paths `taken`."""
    rows = sorted((row_of(sample) for sample in samples), key=lambda row: canonical_json(_sortable(row)))
    rows.sort(key=lambda row: (row["uid"], row["key"]))
    uids = [row["uid"].hex() for row in rows]
    inputs = {"source": digest([_sortable(row) for row in rows])}
    shard = PlannedShard(source, rows, step_spec(source, shard_rows), digest(uids)[:SHARD_DIGITS], inputs)
    repeat = 0
    while shard.path in taken:
        # The same rows once more in one source: count them again instead of losing them.
        repeat += 1
        shard = replace(shard, name=digest([*uids, repeat])[:SHARD_DIGITS])
    return shard


@dataclass(frozen=True)
class PlanStep:
    """Reads one source and commits its new rows shards; returns the paths of all it has, each with the rows in it that
    are superseded."""

    corpus: Store
    shard_rows: int

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: PlanWork, advance: Callable[[int], None]) -> dict[str, Superseded]:
        """Cut the rows that no shard holds into shards, in source order, in constant memory.

        Constant but for 48 bytes per known row.
        """
        rows, damaged = self._inherited(work)
        rows |= self._restored(work, damaged)
        changes = Changes(rows)
        paths: dict[str, Superseded] = dict.fromkeys(rows, ())
        account = Account(work.source)
        new = not_taken_down(self._unknown(work.source, changes, account), work.taken_down, account)
        for samples in chunks(new, self.shard_rows):
            shard = planned_shard(work.source, self.shard_rows, samples, taken=paths)
            shard.commit(self.corpus)
            paths[shard.path] = ()
            advance(len(samples))
        write_reading(self.corpus, account, paths)
        return paths | changes.superseded(work.source.on_removed == "drop")

    def _inherited(self, work: PlanWork) -> tuple[dict[str, pa.Table], list[Known]]:
        """Uid and key of the rows of known shards made with today's settings, by path, and the known shards that cannot
        be read."""
        rows: dict[str, pa.Table] = {}
        damaged = []
        config = step_spec(work.source, self.shard_rows).config_digest
        for shard in work.known:
            try:
                manifest, reader = ledger.open_input(self.corpus, shard.path)
            except ShardError:
                damaged.append(shard)
                continue
            if manifest.config == config:
                rows[shard.path] = reader.table(["uid", "key"])
        return rows, damaged

    def _restored(self, work: PlanWork, damaged: Sequence[Known]) -> dict[str, pa.Table]:
        """Make damaged shards again from the rows that the source still has; uid and key of these by path.

        Which rows these were is told by the raw shard. A shard comes back whole or not at all, for its name is that of
        its content; rows of one that does not are planned with the new ones.
        """
        wanted: dict[str, Counter[tuple[bytes, str]]] = {}
        for known in damaged:
            with contextlib.suppress(ShardError):
                table = ledger.open_input(self.corpus, known.raw)[1].table(["uid", "key"])
                wanted[known.path] = Counter(zip(*(column.to_pylist() for column in table.columns), strict=True))
        if not wanted:
            return {}
        found: dict[tuple[bytes, str], list[Sample]] = {row: [] for rows in wanted.values() for row in rows}
        for sample in read_source(work.source):
            if (row := (sample.uid, sample.key)) in found:
                found[row].append(sample)
        restored: dict[str, pa.Table] = {}
        for path, rows in wanted.items():
            samples = [found[row].pop(0) for row, count in rows.items() for _ in range(min(count, len(found[row])))]
            others = {known.path for known in work.known} - {path}
            shard = planned_shard(work.source, self.shard_rows, samples, taken=others)
            if shard.path == path:
                shard.commit(self.corpus)
                restored[path] = pa.Table.from_pylist(shard.rows, schema=ROWS).select(["uid", "key"])
        return restored

    def _unknown(self, source: Source, changes: Changes, account: Account) -> Iterator[Sample]:
        """The samples of a source that the corpus lacks; `changes` meets all of them."""
        for chunk in chunks(read_source(source, account), 1024):
            for sample in chunk:
                if sample.task != source.task:
                    raise ValueError(
                        f"row {sample.key}: the reader gave task {sample.task}, the spec says {source.task}"
                    )
            yield from (sample for sample, new in zip(chunk, changes.meet(chunk), strict=True) if new)


def not_taken_down(samples: Iterable[Sample], entries: Entries, account: Account) -> Iterator[Sample]:
    """The samples that no takedown list names; the account has the others as skipped."""
    for sample in samples:
        pictures = (Picture(bytes.fromhex(ref.sha256) if ref.sha256 else None, (ref.url,)) for ref in sample.images)
        if entries and match(entries, [Row(sample.uid, tuple(pictures))]).rows:
            account.take_down()
        else:
            yield sample


def row_of(sample: Sample) -> dict[str, Any]:
    """A sample as a row of the rows layer."""
    return {
        "uid": sample.uid,
        "key": sample.key,
        "messages": [message.model_dump() for message in sample.messages],
        "images": [image.model_dump() for image in sample.images],
        "licence": sample.licence,
        "columns": {name: canonical_json(value).decode() for name, value in sample.columns.items()} or None,
        "outcome": sample.outcome.value,
    }


def _sortable(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "uid": row["uid"].hex()}


def plan(build: Build) -> list[Shard]:
    """Every rows shard of the corpus to be: those inherited from the parent snapshot, and the new ones.

    A source whose settings changed is planned anew; shards that come out the same are found again by their content.
    """
    known: dict[str, list[Known]] = {source.name: [] for source in build.spec.sources}
    first_snapshots: dict[str, int] = {}
    for entry in build.parent.shards if build.parent else ():
        if entry.source in known:
            known[entry.source].append(Known(entry.upstream["rows"], entry.upstream["raw"]))
            first_snapshots[entry.upstream["rows"]] = entry.first_snapshot
    works = [
        (source.name, PlanWork(source, tuple(known[source.name]), build.taken_down)) for source in build.spec.sources
    ]
    found = build.run("plan", PlanStep(build.corpus, build.spec.shard_rows), works)
    shards = [
        _shard(ledger.load_manifest(build.corpus, path), first_snapshots.get(path, build.number), superseded)
        for paths in found
        for path, superseded in paths.items()
    ]
    # The order in which sources are listed, or finish, leaves no trace.
    return sorted(shards, key=lambda shard: (shard.source, shard.first_snapshot, shard.path("rows")))


def _shard(manifest: ShardManifest, first_snapshot: int, superseded: Superseded) -> Shard:
    rows = tuple((row, Drop(reason)) for row, reason in superseded)  # they come through a file
    return Shard(manifest.source, manifest.task, manifest.shard, first_snapshot, {"rows": manifest}, rows)
