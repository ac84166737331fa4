"""Publish: one snapshot over all shards, with a funnel that must add up, put in place atomically (DESIGN D3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import ledger
from pipelines.shardio import atomic_file
from pipelines.steps.context import Build, Shard
from schemas.digest import canonical_json, digest
from schemas.manifest import Snapshot, SnapshotShard
from schemas.reasons import Drop
from schemas.spec import CorpusSpec

UPSTREAM = ("rows", "raw", "signals", "decision")


class FunnelError(ValueError):
    """Rows in are not kept + dropped + failed: a bug or a tampered corpus, never to be published."""


@dataclass(frozen=True)
class SummaryStep:
    """Reads what a snapshot says about a shard's kept rows: lengths and licences."""

    corpus: Path

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: Shard, advance: Callable[[int], None]) -> dict[str, Any]:
        """Histogram of token lengths (power-of-two upper bound) and rows per licence."""
        train = ledger.open_input(self.corpus, work.path("train"))[1].table(["uid", "length"])
        rows = ledger.open_input(self.corpus, work.path("rows"))[1].table(["uid", "licence"])
        lengths = Counter(str(1 << (length - 1).bit_length()) for length in train.column("length").to_pylist())
        advance(rows.num_rows)
        return {"lengths": dict(lengths), "licences": dict(licences(rows, train))}


def licences(rows: pa.Table, train: pa.Table) -> Counter[str]:
    """Kept rows per licence. Train rows are some of the shard's rows in the same order, so one walk matches them."""
    counts: Counter[str] = Counter()
    kept = iter(train.column("uid").to_pylist())
    wanted = next(kept, None)
    for uid, licence in zip(rows.column("uid").to_pylist(), rows.column("licence").to_pylist(), strict=True):
        if uid == wanted:
            counts[licence or ""] += 1
            wanted = next(kept, None)
    return counts


def spec_digest(spec: CorpusSpec) -> str:
    """Digest of what a spec asks for: neither the order of its sources nor where data and models lie."""
    content = spec.model_dump(mode="json", exclude={"models"})
    for source in content["sources"]:
        del source["path"]
    content["sources"].sort(key=lambda source: source["name"])
    return digest(content)


def funnel(shards: Sequence[Shard]) -> dict[str, dict[str, int]]:
    """Per source: rows in, what became of them, and kept.

    Raises FunnelError, naming the shard, if at any step rows in are not rows out.
    """
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for shard in shards:
        rows = shard.rows
        for layer, manifest in shard.layers.items():
            if (total := sum(manifest.counts.values())) != rows:
                raise FunnelError(f"{shard.path(layer)}: {total} rows are accounted for, {rows} went in")
        train = shard.layers["train"]
        if train.rows != train.counts.get(Drop.KEPT, 0):
            raise FunnelError(f"{shard.path('train')}: holds {train.rows} rows, its counts say {dict(train.counts)}")
        table[shard.source]["rows"] += rows
        table[shard.source].update({Drop.KEPT.value: 0, **train.counts})
    return {source: dict(counts) for source, counts in sorted(table.items())}


def make_snapshot(build: Build, shards: Sequence[Shard], summaries: Sequence[dict[str, Any]]) -> Snapshot:
    """The snapshot over `shards`, whose summaries are in the same order."""
    lengths: dict[str, Counter[str]] = defaultdict(Counter)
    licence_counts: Counter[str] = Counter()
    entries = []
    for shard, summary in zip(shards, summaries, strict=True):
        lengths[shard.task].update(summary["lengths"])
        licence_counts.update(summary["licences"])
        train = shard.layers["train"]
        entries.append(
            SnapshotShard(
                path=shard.path("train"),
                sha256=train.sha256,
                rows=train.rows,
                bytes=train.bytes,
                source=shard.source,
                task=shard.task,
                role=build.source(shard.source).role,
                upstream={layer: shard.path(layer) for layer in UPSTREAM},
                generation=shard.generation,
            )
        )
    return Snapshot(
        corpus=build.spec.name,
        stage=build.spec.stage,
        number=build.number,
        parent=build.parent.name if build.parent else None,
        spec=spec_digest(build.spec),
        fingerprints=build.fingerprints,
        shards=tuple(entries),
        funnel=funnel(shards),
        length_histogram={task: dict(sorted(counts.items())) for task, counts in sorted(lengths.items())},
        licences=dict(sorted(licence_counts.items())),
    )


def publish(build: Build, shards: Sequence[Shard]) -> Snapshot:
    """Publish the snapshot of `shards` and return it. If nothing changed since the parent, that is returned.

    Raises FunnelError if the counts do not add up; nothing is published then.
    """
    funnel(shards)
    rows = sum(shard.rows for shard in shards)
    summaries = build.run("publish", SummaryStep(build.corpus), [(shard.label, shard) for shard in shards], rows)
    snapshot = make_snapshot(build, shards, summaries)
    parent = build.parent
    if parent and snapshot.model_copy(update={"number": parent.number, "parent": parent.parent}) == parent:
        return parent
    with atomic_file(build.corpus / "snapshots" / f"{snapshot.name}.json") as file:
        file.write(canonical_json(snapshot))
    with atomic_file(build.corpus / "LATEST") as file:
        file.write(f"{snapshot.name}\n".encode())
    return snapshot
