"""Publish: one snapshot over all shards, with a funnel that must add up, put in place atomically (design D3).

Read from manifests alone: publishing costs the same however large the shards are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pipelines.ledger import manifest_path
from pipelines.readings import read_reading
from pipelines.steps.context import Build, Shard
from pipelines.steps.summary import sum_up
from schemas.digest import canonical_json, digest
from schemas.manifest import LATEST, Snapshot, SnapshotShard, TrainSummary, latest_name, spec_path
from schemas.reasons import Drop
from storage.places import is_url
from storage.store import put_named


class Superseded(ValueError):
    """Another build published a snapshot since this one began: plan again from there."""


class EmptySnapshot(ValueError):
    """No row is left to train on, and not every source may be empty."""


class FunnelError(ValueError):
    """Rows in are not kept + dropped + failed: a bug or a tampered corpus, never to be published."""


def spec_content(build: Build) -> dict[str, Any]:
    """What a spec asks for: neither the order of its sources, nor the folders that data and models lie in, nor what it
    says of itself. Only settings that differ from their defaults are in it. The address of a source at the Hub is
    content, with its commit: it says what is read."""
    content = build.spec.model_dump(mode="json", exclude={"models", "description", "signals"}, exclude_defaults=True)
    for source, described in zip(build.spec.sources, content["sources"], strict=True):
        for name in ("allow_links_to", "max_unreadable", "allow_empty"):  # no content
            described.pop(name, None)
        if not is_url(source.path):
            described.pop("path")
        if source.options:
            described["options"] = source.portable_options
        selection = build.selections[source.name]
        described["filters"] = [filter.key for filter in selection.filters]
        described["signals"] = {
            signal.name: [spec.config_digest, dict(spec.fingerprints)]
            for signal in selection.signals
            for spec in [build.signal_specs[signal.name]]
        }
    if build.spec.decontaminate.sets:
        content["decontaminate"]["sets"] = sorted(build.spec.decontaminate.sets)  # what is in them: the snapshot says
    if build.spec.recaption is not None:
        content["recaption"] = {
            name: [spec.config_digest, dict(spec.fingerprints)] for name, spec in build.recaption_specs.items()
        }
    content["sources"].sort(key=lambda source: source["name"])
    content.pop("filters", None)
    return content


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


def summary_of(shard: Shard) -> TrainSummary:
    """What the manifest of a shard's train layer sums up. Raises FunnelError if it does not."""
    summary = shard.layers["train"].summary
    if summary is None:
        raise FunnelError(f"{manifest_path(shard.path('train'))}: holds no summary; delete it and build again")
    return summary


def _skipped(build: Build, shards: Sequence[Shard]) -> dict[str, dict[str, int]]:
    """Rows by reason, per source, that were skipped when the sources were last read."""
    found = {}
    for source in build.spec.sources:
        paths = [shard.path("rows") for shard in shards if shard.source == source.name]
        reading = read_reading(build.corpus, source.name, paths)
        if reading is not None and reading.skipped:
            found[source.name] = reading.skipped
    return found


def _decontamination(shards: Sequence[Shard]) -> dict[str, str]:
    """Evaluation sets that all shards were compared with, by name, and the digests of their files."""
    return next(
        (dict(shard.layers["contamination"].fingerprints) for shard in shards if "contamination" in shard.layers), {}
    )


def make_snapshot(build: Build, shards: Sequence[Shard]) -> Snapshot:
    """The snapshot over `shards`. Raises FunnelError if the counts do not add up."""
    counts = funnel(shards)
    length_histogram, licences = sum_up([(shard.task, summary_of(shard)) for shard in shards])
    entries = []
    for shard in shards:
        train = shard.layers["train"]
        entries.append(
            SnapshotShard(
                path=shard.path("train"),
                sha256=train.sha256,
                rows=train.rows,
                bytes=train.bytes,
                source=shard.source,
                task=shard.task,
                group=build.source(shard.source).group,
                upstream={layer: path for layer, path in shard.paths.items() if layer != "train"},
                first_snapshot=shard.first_snapshot,
            )
        )
    return Snapshot(
        corpus=build.spec.name,
        stage=build.spec.stage,
        number=build.number,
        parent=build.parent.name if build.parent else None,
        spec=digest(spec_content(build)),
        fingerprints=build.fingerprints,
        shards=tuple(entries),
        funnel=counts,
        skipped=_skipped(build, shards),
        length_histogram=length_histogram,
        licences=licences,
        decontamination=_decontamination(shards),
    )


def publish(build: Build, shards: Sequence[Shard]) -> Snapshot:
    """Publish the snapshot of `shards` and return it. If nothing changed since the parent, that is returned.

    Raises FunnelError if the counts do not add up, EmptySnapshot if no row was kept; nothing is published then.
    """
    snapshot = make_snapshot(build, shards)
    if not snapshot.rows() and not all(source.allow_empty for source in build.spec.sources):
        lost = Counter[str]()
        for counts in snapshot.funnel.values():
            lost.update({name: count for name, count in counts.items() if name not in ("rows", Drop.KEPT.value)})
        reasons = ", ".join(f"{name} {count}" for name, count in sorted(lost.items())) or "no source has a row"
        raise EmptySnapshot(
            f"{build.corpus.url}: no row is kept ({reasons}), so nothing is published; allow_empty = true in every "
            "source allows it"
        )
    store, parent = build.corpus, build.parent
    put_named(store, spec_path(snapshot), canonical_json(spec_content(build)))
    if parent and snapshot.model_copy(update={"number": parent.number, "parent": parent.parent}) == parent:
        return parent
    put_named(store, f"snapshots/{snapshot.name}.json", canonical_json(snapshot))
    swapped = store.compare_and_swap(LATEST, f"{snapshot.name}\n".encode(), build.latest)
    if not swapped and (latest := latest_name(store)) != snapshot.name:
        raise Superseded(f"{store.url}: {latest} was published meanwhile; build again to bring it up to date")
    return snapshot
