"""Rows of a snapshot with all that is known of them: a bounded sample, picked by uid, so that it is always the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.filters.where import holds, typed
from pipelines.looking.snapshots import fates
from pipelines.reading.where import Node, parse_where
from pipelines.recaption.said import said_instead
from pipelines.shardio import uid_array
from pipelines.signals import field_type
from pipelines.steps.signal_table import signal_table
from schemas.layers import SIGNALS, UID
from schemas.manifest import Snapshot, SnapshotShard
from schemas.plugins import did_you_mean
from schemas.reasons import Drop
from storage.store import Store

SAMPLE = 200_000
"""Rows that histograms are made of, at most (about)."""
PLAIN = {
    "uid": UID, "source": pa.string(), "task": pa.string(), "fate": pa.string(), "duplicate_of": UID,
    "contaminated_by": pa.string(), "entry": pa.int32(), "row": pa.int32(),
}  # fmt: skip
"""Columns beside the signals. `entry` is the shard's place in the snapshot, `row` the row's in the shard."""


@dataclass(frozen=True)
class Wanted:
    """Which rows to look at."""

    source: str | None = None
    reason: str | None = None
    """An outcome, a reason, or `kept`."""
    where: Node | None = None
    """Over signals, `source`, `task` and `fate`; typed."""
    reads: tuple[str, ...] = ()
    """Signal fields that it looks at."""


NAMED = ("source", "task", "fate")
"""Columns that a condition may name, beside signal fields."""


def _kind_of(name: str) -> pa.DataType:
    if name in NAMED:
        return pa.string()
    try:
        return field_type(name)
    except ValueError as error:
        raise ValueError(f"{error}; beside signals there are {', '.join(NAMED)}") from None


def wanted(snapshot: Snapshot, source: str | None, reason: str | None, where: str | None) -> Wanted:
    """Check what is asked for. Raises ValueError with one line that says what there is instead."""
    sources = sorted(snapshot.funnel)
    if source is not None and source not in sources:
        raise ValueError(
            f"--source {source}: no such source{did_you_mean(source, sources)}; there is {', '.join(sources)}"
        )
    reasons = sorted(
        {name for counts in snapshot.funnel.values() for name, count in counts.items() if count} - {"rows"}
    )
    if reason is not None and reason not in reasons:
        raise ValueError(f"--reason {reason}: no row{did_you_mean(reason, reasons)}; there is {', '.join(reasons)}")
    try:
        parsed = None if where is None else parse_where(where, "condition")
        node = None if parsed is None else typed(parsed, _kind_of)
    except ValueError as error:
        raise ValueError(f"--where: {error}") from None
    names = [] if parsed is None else parsed.columns()
    return Wanted(source, reason, node, tuple(name for name in names if name not in NAMED))


@dataclass(frozen=True)
class Looked:
    """What was found."""

    counts: Counter[str]
    """All rows that were asked for, by what became of them."""
    sample: pa.Table
    """Of these, about SAMPLE, by uid: PLAIN, and a struct per signal."""
    shown: Mapping[str, pa.Table]
    """Rows to show, by what became of them; columns as in `sample`."""

    @property
    def rows(self) -> int:
        """All rows that were asked for."""
        return self.counts.total()


def look(corpus: Store, snapshot: Snapshot, wanted: Wanted, show: int) -> Looked:
    """Go through a snapshot shard by shard; `show` rows per fate are picked to be shown, those of the smallest uids.

    Raises ShardError for a damaged shard.
    """
    share = min(1.0, SAMPLE / max(1, sum(counts["rows"] for counts in snapshot.funnel.values())))
    limit = int(share * 2**64)
    counts: Counter[str] = Counter()
    sample: list[pa.Table] = []
    shown: dict[str, list[pa.Table]] = defaultdict(list)
    for place, entry in enumerate(snapshot.shards):
        if wanted.source not in (None, entry.source):
            continue
        table = _selected(corpus, entry, _table(corpus, entry, place), wanted)
        counts.update(table.column("fate").to_pylist())
        first = np.frombuffer(b"".join(uid[:8] for uid in table.column("uid").to_pylist()), ">u8")
        sample.append(table.filter(pa.array(first < limit)) if share < 1 else table)
        for fate in pc.unique(table.column("fate")).to_pylist():
            shown[fate].append(table.filter(pc.equal(table.column("fate"), fate)).slice(0, show))
            if len(shown[fate]) > 64:
                shown[fate] = [_smallest(shown[fate], show)]
    return Looked(counts, _joined(sample), {fate: _smallest(tables, show) for fate, tables in shown.items()})


def _table(corpus: Store, entry: SnapshotShard, place: int) -> pa.Table:
    uids, found = fates(corpus, entry)
    decision = ledger.open_input(corpus, entry.upstream["decision"])[1].table(["duplicate_of"])
    rows = len(uids)
    by = pa.nulls(rows, pa.string())
    if (path := entry.upstream.get("contamination")) is not None:
        by = ledger.open_input(corpus, path)[1].table(["item"]).column("item").combine_chunks()
    columns: dict[str, Any] = {
        "uid": pa.array(uids, UID),
        "source": pa.array([entry.source] * rows, pa.string()),
        "task": pa.array([entry.task] * rows, pa.string()),
        "fate": pa.array(found, pa.string()),
        "duplicate_of": decision.column("duplicate_of"),
        "contaminated_by": by,
        "entry": pa.array([place] * rows, pa.int32()),
        "row": pa.array(range(rows), pa.int32()),
    }
    for layer, path in sorted(entry.upstream.items()):
        if layer.startswith(SIGNALS):
            table = ledger.open_input(corpus, path)[1].table().drop_columns(["uid"]).combine_chunks()
            arrays = [column.combine_chunks() for column in table.columns]
            columns[layer.removeprefix(SIGNALS)] = pa.StructArray.from_arrays(arrays, fields=list(table.schema))
    return pa.table(columns)


def _selected(corpus: Store, entry: SnapshotShard, table: pa.Table, wanted: Wanted) -> pa.Table:
    if wanted.where is not None:
        columns = signal_table(corpus, entry.upstream, wanted.reads)
        for name in NAMED:
            columns = columns.append_column(name, table.column(name))
        table = table.filter(holds(columns, wanted.where).fill_null(False))
    return table if wanted.reason is None else table.filter(pc.equal(table.column("fate"), wanted.reason))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table; a signal that some shards lack is null there."""
    return (
        pa.concat_tables(tables, promote_options="permissive")
        if tables
        else pa.table({name: pa.array([], kind) for name, kind in PLAIN.items()})
    )


def _smallest(tables: Sequence[pa.Table], count: int) -> pa.Table:
    table = _joined(tables)
    return table.take(pa.array(np.argsort(uid_array(table.column("uid")), kind="stable")[:count]))


def fields(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Signal fields of a table of rows, by their names."""
    found = {}
    for name in table.column_names:
        if name not in PLAIN:
            for field in table.schema.field(name).type:
                found[f"{name}.{field.name}"] = pc.struct_field(table.column(name), field.name)
    return found


def numeric(values: pa.ChunkedArray) -> bool:
    """Whether a field is a number to measure by; one of 64 bits without sign is a hash."""
    kind = values.type
    return bool((pa.types.is_integer(kind) and not pa.types.is_uint64(kind)) or pa.types.is_floating(kind))


def contents(
    corpus: Store, snapshot: Snapshot, places: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Raw rows (messages, images, key) by (entry, row), with the messages that are trained on and, where a model wrote
    the caption, what the source says as `source_messages`. Each shard is opened once."""
    found = {}
    for entry in sorted({entry for entry, _ in places}):
        layers = snapshot.shards[entry].upstream
        table = ledger.open_input(corpus, layers["raw"])[1].table(["key", "messages", "images"])
        said = said_instead(corpus, layers)
        for row in sorted({row for other, row in places if other == entry}):
            found[entry, row] = table.slice(row, 1).to_pylist()[0]
            if said is not None:
                found[entry, row] |= {"source_messages": found[entry, row]["messages"], "messages": said[row].as_py()}
    return found


def where_are(corpus: Store, snapshot: Snapshot, uids: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """(entry, row) of rows by uid, where they are kept; of a uid that several rows have, the first."""
    found: dict[bytes, tuple[int, int]] = {}
    if not uids:
        return found
    sought = pa.array(sorted(set(uids)), UID)
    for place, entry in enumerate(snapshot.shards):
        table = ledger.open_input(corpus, entry.upstream["decision"])[1].table(["uid", "reason"])
        here = pc.and_(pc.is_in(table.column("uid"), sought), pc.is_null(table.column("reason")))
        for row in pc.indices_nonzero(here).to_pylist():
            found.setdefault(table.column("uid")[row].as_py(), (place, row))
    return found


def in_order(counts: Counter[str]) -> list[str]:
    """Fates: kept first, then by how many rows."""
    return sorted(counts, key=lambda fate: (fate != Drop.KEPT, -counts[fate], fate))
