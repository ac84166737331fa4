"""Verify a corpus: hash everything, check every count, explain every difference in one line.

    python -m pipelines.verify CORPUS          of the workspace's corpora, every one, without a name

Reads each shard once. Prints one line per difference and exits 1 if there is any. A difference never heals by itself:
delete what the line names and build again (a shard that is still referenced comes back with the same name).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro

from janus.cli import parse, run
from janus.workspace import needed_workspace
from pipelines import ledger
from pipelines.filters import reasons
from pipelines.removal.entries import PURGING, pending
from pipelines.shardio import ShardError, uid_array
from pipelines.signals import MEASURED, NOT_MEASURED, OUTCOME
from pipelines.steps.collect_garbage import snapshot_names
from pipelines.steps.decide import count_decisions
from pipelines.steps.judge import count_contaminated, count_recaptions
from pipelines.steps.summary import sum_up, summarise
from schemas.layers import LAYERS, SIGNALS, signal_layer
from schemas.manifest import ShardManifest, Snapshot, SnapshotShard, TrainSummary, latest_name, load_snapshot
from schemas.printable import printable
from schemas.reasons import Drop, Outcome
from storage.places import Place, as_store, open_fetched
from storage.store import Store


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    snapshots: int
    shards: int
    bytes: int
    differences: tuple[str, ...]


class _Corpus:
    """Reads manifests and shards of a corpus once each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifests: dict[str, ShardManifest] = {}
        self.uids: dict[str, str] = {}
        """Digest of the uid column, in row order."""
        self.bytes = 0
        self.reasons = {*Outcome, *Drop, *reasons()}
        """What a decision may say."""

    def read(self, path: str) -> Iterator[str]:
        """Check one shard by itself; yields what is wrong with it."""
        try:
            manifest, reader = ledger.open_input(self.store, path)
            table = reader.table()
        except (ShardError, ValueError, OSError, pa.ArrowInvalid) as error:
            yield " ".join(str(error).split())
            return
        self.bytes += manifest.bytes
        self.manifests[path] = manifest
        uids = uid_array(table.column("uid"))
        self.uids[path] = hashlib.sha256(uids.tobytes()).hexdigest()
        if table.num_rows != manifest.rows:
            yield f"{path}: holds {table.num_rows} rows, its manifest says {manifest.rows}"
        if (uids[1:] < uids[:-1]).any():
            yield f"{path}: rows are not sorted by uid"
        counts = counts_of(manifest.layer, table)
        if unknown := counts.keys() - self.reasons if manifest.layer == "decision" else ():
            yield f"{path}: no filter here has the reason {', '.join(sorted(unknown))}; install the package that has it"
        kept = {name: manifest.counts.get(name, 0) for name in counts}
        if counts != kept:
            yield f"{path}: counted {counts}, its manifest says {kept}"

    def _table(self, path: str) -> pa.Table:
        """A shard that was verified before."""
        manifest = self.manifests[path]
        return open_fetched(self.store, path, manifest.sha256, manifest.bytes, _mapped)

    def summary(self, train: str, rows: str) -> TrainSummary:
        """What the manifest of a train shard should sum up. Both shards were verified before."""
        kept, all_rows = self._table(train), self._table(rows)
        return summarise(kept.column("uid").to_pylist(), kept.column("length").to_pylist(), all_rows)

    def kept_only(self, train: str, decision: str) -> bool:
        """Whether every row of a train shard is kept by its decision shard. Both were verified before."""
        uids, table = self._table(train), self._table(decision)
        kept = table.filter((pc.field("outcome") == Outcome.OK.value) & pc.field("reason").is_null())
        return bool(np.isin(uid_array(uids.column("uid")), uid_array(kept.column("uid"))).all())


def _mapped(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def counts_of(layer: str, table: pa.Table) -> dict[str, int]:
    """Rows by outcome or reason, as far as the shard itself tells."""
    if layer == "rows":
        return {"rows": table.num_rows}
    if layer == "train":
        return {Drop.KEPT.value: table.num_rows}
    counts: Counter[str] = Counter()
    if layer == "raw":
        counts.update(table.column("outcome").to_pylist())
    elif layer == "decision":
        counts = count_decisions(table)
    elif layer == "contamination":
        counts = count_contaminated(table)
    elif layer == "recaption":
        counts = count_recaptions(table)
    elif layer == signal_layer(OUTCOME):
        counts.update(table.column("outcome").to_pylist())
    else:
        columns = [column.is_valid().to_numpy() for column in table.drop_columns(["uid"]).columns]
        measured = int(np.logical_or.reduce(columns).sum())
        counts.update({MEASURED: measured, NOT_MEASURED: table.num_rows - measured})
    return {name: count for name, count in counts.items() if count}


def verify(corpus: Place) -> Report:
    """Check every snapshot and every committed shard of a corpus folder.

    Raises FileNotFoundError if there is no such folder, or nothing of a corpus in it.
    """
    store = as_store(corpus)
    if store.folder is not None and not store.folder.is_dir():
        raise FileNotFoundError(f"{store.url}: no such corpus folder")
    if not any(True for name in (*LAYERS, SIGNALS, "snapshots") for _ in store.list(name)):
        raise FileNotFoundError(f"{store.url}: no corpus in this folder (is it one further down?)")
    shards = _Corpus(store)
    differences: list[str] = []
    for file in ledger.shard_files(store):
        if file.key.endswith(".json"):  # what no manifest speaks of does not exist
            differences += shards.read(file.key.removesuffix(".json") + ".arrow")
    names = snapshot_names(store)
    for name in names:
        try:
            snapshot = load_snapshot(store, name)
        except (ValueError, FileNotFoundError) as error:
            differences.append(str(error))
            continue
        differences += (f"snapshot {name}: {line}" for line in _check_snapshot(snapshot, shards))
    for file in store.list("specs"):
        if hashlib.sha256(store.read(file.key)).hexdigest() != PurePosixPath(file.key).stem:
            differences.append(f"{file.key}: damaged; delete it, the next new snapshot of this spec writes it again")
    latest = latest_name(store)
    if names and latest is None:
        differences.append("LATEST: missing although there are snapshots; write the newest snapshot's name into it")
    elif latest is not None and latest not in names:
        differences.append(f"LATEST: names {latest!r}, which is no snapshot of this corpus")
    if pending(store):
        differences.append(
            f"{PURGING}: a purge was interrupted; end it: python -m pipelines.takedown {store.url} --purge"
        )
    return Report(len(names), len(shards.manifests), shards.bytes, tuple(differences))


def _check_snapshot(snapshot: Snapshot, shards: _Corpus) -> Iterator[str]:
    funnel: dict[str, dict[str, int]] = {}
    summaries: list[tuple[str, TrainSummary]] = []
    for entry in snapshot.shards:
        yield from _check_entry(entry, shards)
        train, rows = shards.manifests.get(entry.path), shards.manifests.get(entry.upstream["rows"])
        counts = funnel.setdefault(entry.source, {"rows": 0, Drop.KEPT.value: 0})
        counts["rows"] += rows.rows if rows else 0
        for reason, count in train.counts.items() if train else ():
            counts[reason] = counts.get(reason, 0) + count
        if train and rows:
            summary = shards.summary(entry.path, entry.upstream["rows"])
            summaries.append((entry.task, summary))
            if train.summary not in (None, summary):
                yield f"{entry.path}: its manifest sums up {train.summary}, its rows {summary}"
    for source, counts in sorted(snapshot.funnel.items()):
        outcomes = sum(count for name, count in counts.items() if name != "rows")
        if outcomes != counts["rows"]:
            yield f"funnel of {source}: {counts['rows']} rows in, {outcomes} accounted for"
        elif counts != funnel.get(source):
            yield f"funnel of {source} says {counts}, its shards say {funnel.get(source)}"
    histogram, licences = sum_up(summaries)
    if snapshot.length_histogram != histogram:
        yield f"length_histogram says {snapshot.length_histogram}, its shards say {histogram}"
    if snapshot.licences != licences:
        yield f"licences says {snapshot.licences}, its shards say {licences}"


def _check_entry(entry: SnapshotShard, shards: _Corpus) -> Iterator[str]:
    """One shard of a snapshot with all that it came from."""
    paths = {**entry.upstream, "train": entry.path}
    found = {layer: shards.manifests[path] for layer, path in paths.items() if path in shards.manifests}
    for layer, path in paths.items():
        if layer not in found:
            yield f"needs {path}, which is missing or damaged; build again, or use another snapshot"
    train = found.get("train")
    if train and (train.sha256, train.rows, train.bytes) != (entry.sha256, entry.rows, entry.bytes):
        yield f"{entry.path}: is not the shard that was published"
    for layer, manifest in found.items():
        for name, sha256 in manifest.inputs.items():
            if layer == "raw" and name == "raw":
                continue  # An earlier attempt, which may be gone.
            read_by_signal = layer.startswith(SIGNALS) and name.startswith(SIGNALS)
            if name in found and sha256 != (found[name].key if read_by_signal else found[name].sha256):
                yield f"{paths[layer]}: was made from another {name} shard than {paths[name]}"
    rows = found.get("rows")
    if rows is None:
        return
    for layer, manifest in found.items():
        if (total := sum(manifest.counts.values())) != rows.rows:
            yield f"{paths[layer]}: accounts for {total} of {rows.rows} rows"
        if layer != "train" and shards.uids[paths[layer]] != shards.uids[paths["rows"]]:
            yield f"{paths[layer]}: its rows are not those of {paths['rows']}"
    if "train" in found and "decision" in found and not shards.kept_only(paths["train"], paths["decision"]):
        yield f"{paths['train']}: holds rows that {paths['decision']} does not keep"


@dataclass
class Command:
    """Hash every shard of corpora and check every count; one line per difference, and exit code 1 if there is any."""

    corpora: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[CORPUS ...]")] = ()
    """Folders or addresses (s3://, gs://, az://) of corpora, those that hold LATEST. By the workspace: all in its
    folder of corpora."""


def main() -> int:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.verify")
    corpora = command.corpora
    if not corpora:
        workspace = needed_workspace("no corpus named")
        corpora = tuple(workspace.all_corpora())
        if not corpora:
            raise FileNotFoundError(f"{workspace.corpora}: no corpus in this folder of {workspace.file}; name one")
    found = False
    for corpus in corpora:
        report = verify(corpus)
        for line in report.differences:
            print(printable(line))
        verdict = f"{len(report.differences)} differences" if report.differences else "all well"
        size = f"{report.shards} shards, {report.bytes / 1e6:.1f} MB, {report.snapshots} snapshots"
        print(f"{printable(corpus)}: {size}: {verdict}", flush=True)
        found |= bool(report.differences)
    return int(found)


if __name__ == "__main__":
    run(main)
