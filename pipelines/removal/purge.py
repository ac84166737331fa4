"""Purge: rows disappear from every layer of every snapshot, byte by byte.

A purged row keeps its uid, a digest, in all layers but `train`: so rows still lie side by side, counts still add up,
and a refresh knows the row and does not collect it again. Everything else of it is blank, and the decision of a row
that was kept is `taken_down`.

Shards are never changed in place. The shards of a snapshot that has such rows are written anew beside the old ones,
each under the key that its new inputs give; then the snapshots, each under the name that its new content gives; then
LATEST; and only then are the old snapshots and shards deleted. What is to be done is noted before anything is written,
so a purge that was killed at any point is ended by the next call, with the same bytes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.readings import FOLDER as READINGS
from pipelines.recaption.journal import forget
from pipelines.removal.entries import Entries, Purge, begin, end, keep_list, pending
from pipelines.removal.match import Match, match, match_all, rows_of
from pipelines.shardio import ShardError, ShardReader, Written
from pipelines.signals import OUTCOME
from pipelines.steps.collect_garbage import snapshot_names
from pipelines.steps.context import Shard
from pipelines.steps.publish import funnel, summary_of
from pipelines.steps.summary import sum_up, summarise
from pipelines.verify import counts_of
from schemas.digest import canonical_json, digest
from schemas.layers import SIGNALS, signal_layer
from schemas.manifest import LATEST, ShardManifest, Snapshot, SnapshotShard, load_snapshot
from schemas.reasons import Drop, Outcome
from storage.store import Store, plain_key, put_named

OnShard = Callable[[str], None]
"""Called with the path of each shard before it is read."""


def find(corpus: Store, entries: Entries, on_shard: OnShard) -> tuple[frozenset[bytes], Match, Match]:
    """Uids of the rows that entries name, in any committed shard, and how: named themselves, or by the same picture.

    Rows that were purged before are not among them. Raises ShardError if a shard is damaged.
    """
    manifests = []
    for path in _committed(corpus, "rows", "raw"):
        on_shard(path)
        manifest, reader = ledger.open_input(corpus, path)
        if reader.rows:
            manifests.append(manifest)
    uids: set[bytes] = set()

    def look(wanted: Entries) -> Match:
        whole = Match()
        for manifest in manifests:
            found = match(wanted, rows_of(corpus, manifest))
            whole.pictures |= found.pictures
            whole.hits |= found.hits
            reader = ledger.open_input(corpus, ledger.path_of(manifest))[1] if found.rows else None
            if reader is not None:
                uids.update(_present(reader, frozenset(found.rows.values()), manifest.layer))
        return whole

    first, second = match_all(entries, look)
    return frozenset(uids), first, second


def purge(corpus: Store, entries: Entries | None, on_shard: OnShard) -> list[Purge]:
    """End a purge that was interrupted, then remove all rows that `entries` name; returns the records of what was done.

    Raises CorpusBusy if a build holds the corpus, and ShardError or ValueError, before anything is removed, if a shard
    or snapshot is damaged.
    """
    done = []
    with ledger.locked(corpus):
        ledger.sweep(corpus)
        if corpus.folder is not None:
            shutil.rmtree(corpus.folder / ledger.SCRATCH, ignore_errors=True)
        if begun := pending(corpus):
            done.append(_carry_out(corpus, begun, on_shard))
        if entries:
            uids, *found = find(corpus, entries, on_shard)
            if pictures := frozenset().union(*(one.pictures for one in found)):
                keep_list(corpus, Entries(sha256=pictures))  # they must not come back from elsewhere
            if uids:
                _check(corpus, uids, on_shard)
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                purge = Purge(time=now, uids=tuple(sorted(uid.hex() for uid in uids)))
                begin(corpus, purge)
                done.append(_carry_out(corpus, purge, on_shard))
    return done


def _carry_out(corpus: Store, purge: Purge, on_shard: OnShard) -> Purge:
    """All of a purge; whatever was done before is found done."""
    uids = frozenset(map(bytes.fromhex, purge.uids))
    rewriter = _Rewriter(corpus, uids, on_shard)
    names: dict[str, str] = dict(purge.snapshots)
    for snapshot in _snapshots(corpus):
        new = rewriter.snapshot(snapshot, names)
        if new.name != snapshot.name:
            put_named(corpus, f"snapshots/{new.name}.json", canonical_json(new))
            names[snapshot.name] = new.name
    purge = purge.model_copy(update={"snapshots": names})
    begin(corpus, purge)
    latest = corpus.read_versioned(LATEST)
    if latest and (new_name := names.get(latest.data.decode().strip())):
        corpus.compare_and_swap(LATEST, f"{new_name}\n".encode(), latest.version)
    for name in names:
        corpus.delete(f"snapshots/{name}.json")
    _delete_shards(corpus, uids, on_shard)
    end(corpus, purge)
    return purge


def _snapshots(corpus: Store) -> list[Snapshot]:
    """Every snapshot, those that others grew from first."""
    return sorted((load_snapshot(corpus, name) for name in snapshot_names(corpus)), key=lambda one: one.number)


def _check(corpus: Store, uids: frozenset[bytes], on_shard: OnShard) -> None:
    """Raise ShardError or ValueError if a shard that is to be written anew, or a snapshot, is damaged."""
    for snapshot in _snapshots(corpus):
        for entry in snapshot.shards:
            on_shard(entry.path)
            if _present(ledger.open_input(corpus, entry.upstream["rows"])[1], uids, "rows"):
                for path in (entry.path, *entry.upstream.values()):
                    ledger.open_input(corpus, path)


def _committed(corpus: Store, *layers: str) -> list[str]:
    """Paths of the shard files of some layers that have a manifest."""
    keys = [entry.key for layer in layers for entry in corpus.list(layer)]
    return sorted(key.removesuffix(".json") + ".arrow" for key in keys if key.endswith(".json"))


def _present(reader: ShardReader, uids: frozenset[bytes], layer: str) -> set[bytes]:
    """Which of the uids have a row in a shard of the rows or raw layer that is not blank."""
    table = reader.table(["uid", "messages", "images"])
    wanted = table.filter(pc.is_in(table.column("uid"), pa.array(sorted(uids), table.schema.field("uid").type)))
    filled = pc.greater(
        pc.add(pc.list_value_length(wanted.column("messages")), pc.list_value_length(wanted.column("images"))), 0
    )
    return set(wanted.column("uid").filter(filled).to_pylist())


def blanked(layer: str, batch: pa.RecordBatch, uids: frozenset[bytes]) -> pa.RecordBatch:
    """A record batch without what these rows hold; of `train`, without the rows. Others stay as they are."""
    hit = pc.is_in(batch.column("uid"), pa.array(sorted(uids), batch.schema.field("uid").type))
    places = pc.indices_nonzero(hit).to_pylist()
    if not places:
        return batch
    if layer == "train":
        return batch.filter(pc.invert(hit))
    parts, start = [], 0
    for place in places:
        row = _blank(layer, batch.select(_KEPT.get(layer, ["uid"])).slice(place, 1).to_pylist()[0])
        parts += [batch.slice(start, place - start), pa.RecordBatch.from_pylist([row], schema=batch.schema)]
        start = place + 1
    table = pa.Table.from_batches([*parts, batch.slice(start)], schema=batch.schema).combine_chunks()
    (whole,) = table.to_batches()
    return whole


_KEPT = {
    "rows": ["uid", "outcome"],
    "raw": ["uid", "outcome"],
    "decision": ["uid", "outcome", "reason", "duplicate_of"],
    signal_layer(OUTCOME): ["uid", "outcome"],
}
"""Columns that a purged row keeps, by layer; elsewhere its uid alone."""


def _blank(layer: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of which only what is in `row` is left."""
    if layer == "rows":
        return {"key": "", "messages": [], "images": [], **row}
    if layer == "raw":
        return {"key": "", "messages": [], "images": [], "lost_images": [], **row}
    if layer == "recaption":
        return {"used": False, "messages": [], **row}
    if layer == "decision" and row["outcome"] == Outcome.OK and row["reason"] is None:
        return {**row, "reason": Drop.TAKEN_DOWN.value}
    return row


class _Rewriter:
    """Writes shards and snapshots without some rows, each once."""

    def __init__(self, corpus: Store, uids: frozenset[bytes], on_shard: OnShard) -> None:
        self._corpus, self._uids, self._on_shard = corpus, uids, on_shard
        self._made: dict[tuple[str, str], ShardManifest] = {}

    def snapshot(self, snapshot: Snapshot, names: Mapping[str, str]) -> Snapshot:
        """A snapshot as it is without the rows, and with the parent's new name; the same one if it had none of them."""
        parent = names.get(snapshot.parent, snapshot.parent) if snapshot.parent else None
        shards, entries = [], []
        for entry in snapshot.shards:
            self._on_shard(entry.path)
            _, rows = ledger.open_input(self._corpus, entry.upstream["rows"])
            if _present(rows, self._uids, "rows"):
                made = self._shard(entry)
                entry = _entry(entry, made)
                shards.append(Shard(entry.source, entry.task, made["rows"].shard, entry.first_snapshot, made))
            else:
                shards.append(self._as_it_is(entry))
            entries.append(entry)
        if tuple(entries) == snapshot.shards:
            return snapshot.model_copy(update={"parent": parent})
        histogram, licences = sum_up([(shard.task, summary_of(shard)) for shard in shards])
        return snapshot.model_copy(
            update={
                "parent": parent,
                "shards": tuple(entries),
                "funnel": {**snapshot.funnel, **funnel(shards)},
                "length_histogram": histogram,
                "licences": licences,
            }
        )

    def _as_it_is(self, entry: SnapshotShard) -> Shard:
        paths = {**entry.upstream, "train": entry.path}
        layers = {layer: ledger.load_manifest(self._corpus, path) for layer, path in paths.items()}
        return Shard(entry.source, entry.task, layers["rows"].shard, entry.first_snapshot, layers)

    def _shard(self, entry: SnapshotShard) -> dict[str, ShardManifest]:
        """All layers of a shard without the rows, in their order."""
        old = self._as_it_is(entry).layers
        made: dict[str, ShardManifest] = {}
        waiting = [layer for layer in ("rows", "raw", "recaption") if layer in old]
        signals = sorted(layer for layer in old if layer.startswith(SIGNALS))
        while signals:  # those that others read come before them
            ready = [layer for layer in signals if not {*old[layer].inputs} & {*signals} - {layer}]
            waiting += ready
            signals = [layer for layer in signals if layer not in ready]
        for layer in [*waiting, *(layer for layer in ("contamination", "decision", "train") if layer in old)]:
            made[layer] = self._layer(old[layer], old, made)
        return made

    def _layer(
        self, manifest: ShardManifest, old: Mapping[str, ShardManifest], made: Mapping[str, ShardManifest]
    ) -> ShardManifest:
        """One layer without the rows, committed under the key that its new inputs give."""
        path = ledger.path_of(manifest)
        _, reader = ledger.open_input(self._corpus, path)
        inputs = {name: self._input(manifest, name, old, made) for name in manifest.inputs}
        if manifest.layer == "rows":
            blank = sorted(uid.hex() for uid in self._blank_uids(reader))
            inputs["purged"] = digest(blank)
        if (path, digest(inputs)) in self._made:  # snapshots share shards
            return self._made[path, digest(inputs)]
        key = ledger.key_of(manifest.config, manifest.fingerprints, inputs)
        new = ledger.shard_path(manifest.layer, manifest.source, manifest.shard, key)
        found = ledger.find(self._corpus, new)
        if found is None:
            written, counts = self._write(reader, manifest, new)
            update: dict[str, Any] = {
                "key": key, "rows": written.rows, "bytes": written.bytes, "sha256": written.sha256, "inputs": inputs,
                "counts": counts,
            }  # fmt: skip
            if manifest.layer == "train":
                table = ledger.open_shard(self._corpus, new, manifest.model_copy(update=update)).table()
                rows = ledger.open_input(self._corpus, ledger.path_of(made["rows"]))[1].table(["uid", "licence"])
                update["summary"] = summarise(table.column("uid").to_pylist(), table.column("length").to_pylist(), rows)
            found = ledger.put_manifest(self._corpus, manifest.model_copy(update=update).sealed())
        self._made[path, digest(inputs)] = found
        return found

    def _input(
        self,
        manifest: ShardManifest,
        name: str,
        old: Mapping[str, ShardManifest],
        made: Mapping[str, ShardManifest],
    ) -> str:
        """What an input of a layer is called now. Rows have their source; raw shards, an earlier attempt."""
        value = manifest.inputs[name]
        if name not in made or name == manifest.layer:
            return value
        by_key = manifest.layer.startswith(SIGNALS) and name.startswith(SIGNALS)
        assert value == (old[name].key if by_key else old[name].sha256), f"{manifest.layer}: made from another {name}"
        return made[name].key if by_key else made[name].sha256

    def _blank_uids(self, reader: ShardReader) -> Iterator[bytes]:
        """Uids of the rows of a rows shard that are blank after this."""
        table = reader.table(["uid", "key"])
        for uid, key in zip(table.column("uid").to_pylist(), table.column("key").to_pylist(), strict=True):
            if not key or uid in self._uids:
                yield uid

    def _write(self, reader: ShardReader, manifest: ShardManifest, path: str) -> tuple[Written, dict[str, int]]:
        """Write a shard without the rows; returns its rows by outcome or reason too."""
        counts: Counter[str] = Counter()
        rows = 0
        options = pa.ipc.IpcWriteOptions(compression=None)
        with (
            self._corpus.writing_content(path) as sink,
            pa.ipc.new_file(pa.PythonFile(sink, mode="w"), reader.file.schema, options=options) as writer,
        ):
            for batch in reader.batches():
                left = blanked(manifest.layer, batch, self._uids)
                rows += left.num_rows
                counts.update(counts_of(manifest.layer, pa.Table.from_batches([left])))
                if left.num_rows:
                    writer.write_batch(left)
        if manifest.layer == "train":
            counts = Counter(manifest.counts)
            counts[Drop.KEPT.value] -= manifest.rows - rows
            counts[Drop.TAKEN_DOWN.value] += manifest.rows - rows
        return Written(rows, sink.bytes, sink.sha256), {name: count for name, count in sorted(counts.items()) if count}


def _entry(entry: SnapshotShard, made: Mapping[str, ShardManifest]) -> SnapshotShard:
    """The entry of a snapshot for a shard that was written anew."""
    train = made["train"]
    return entry.model_copy(
        update={
            "path": ledger.path_of(train),
            "sha256": train.sha256,
            "rows": train.rows,
            "bytes": train.bytes,
            "upstream": {layer: ledger.path_of(made[layer]) for layer in entry.upstream},
        }
    )


def _delete_shards(corpus: Store, uids: frozenset[bytes], on_shard: OnShard) -> None:
    """Delete every shard of these rows that no snapshot needs, shard files without a manifest, and what readings and
    unfinished recaptions keep, which the next build makes again. A manifest goes before its shard."""
    needed: set[str] = set()
    for snapshot in _snapshots(corpus):
        for entry in snapshot.shards:
            for path in (entry.path, *entry.upstream.values()):
                needed |= {path, ledger.manifest_path(path)}
    unneeded = [entry.key for entry in ledger.shard_files(corpus) if plain_key(entry.key) not in needed]
    kept: set[str] = set()
    wanted = pa.array(sorted(uids), pa.binary(16))
    for key in unneeded:
        path = key.removesuffix(".json") + ".arrow"
        if key.endswith(".json"):
            on_shard(path)
            try:
                column = ledger.open_input(corpus, path)[1].table(["uid"]).column("uid")
            except ShardError:
                pass  # whatever it holds, nothing needs it
            else:
                if not pc.any(pc.is_in(column, wanted)).as_py():
                    kept |= {key, path}
                    continue
        if plain_key(key) not in kept:
            corpus.delete(key)
    for left in list(corpus.list(READINGS)):
        corpus.delete(left.key)
    forget(corpus)
