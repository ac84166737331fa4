"""Compare two snapshots, of one corpus or of two: which rows came, which went, whose fate changed.

    python -m pipelines.compare runs/corpora/photos@1 runs/corpora/photos@2

A row is known by its source and its uid; a changed caption or picture makes another row, so it is one that went or was
`updated`, and one that came.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tyro

from janus.cli import escape, parse, run
from pipelines import ledger
from pipelines.list import SnapshotInfo, corpora
from pipelines.looking.snapshots import at, fates
from schemas.manifest import Snapshot, SnapshotShard
from schemas.printable import printable
from storage.store import Store

_ROW = np.dtype([("source", "<u2"), ("uid", "S16"), ("fate", "<u2"), ("repeat", "<u4")])
Counts = dict[str, dict[str, int]]
"""Source to fate (or to "fate -> fate") to rows."""
ARROW = " -> "


@dataclass(frozen=True)
class Comparison:
    """What differs between two snapshots. Rows of A = same + changed + went; rows of B = same + changed + came."""

    a: dict[str, Any]
    """Place, snapshot, rows in and rows kept."""
    b: dict[str, Any]
    same: int
    """Rows in both, with the same fate."""
    came: Counts
    """Rows that only B has, by what became of them there."""
    went: Counts
    """Rows that only A has, by what had become of them there."""
    changed: Counts
    """Rows in both, by their fates in A and in B."""
    settings: tuple[str, ...]
    """What else the snapshots say differently: spec, stage, model, evaluation sets."""


def compare(a: tuple[Store, Snapshot], b: tuple[Store, Snapshot]) -> Comparison:
    """Compare two snapshots by the uids of their decision layers. Shards that both have are not read.

    24 bytes per row of the others. Raises ShardError if a shard is damaged.
    """
    left, right = _shards(*a), _shards(*b)
    shared = Counter({key: len(found) for key, found in left.items()}) & Counter(
        {key: len(found) for key, found in right.items()}
    )
    same = sum(left[key][0][1] * count for key, count in shared.items())
    sources: dict[str, int] = {}
    names: dict[str, int] = {"kept": 0}  # so that of a row that a source has twice, the kept one is met first
    rows = [
        _rows(store, [entry for key, found in shards.items() for entry, _ in found[shared[key] :]], sources, names)
        for (store, _), shards in ((a, left), (b, right))
    ]
    one, other = rows
    keys = [_key(table) for table in rows]
    here, there = (np.isin(keys[0], keys[1], assume_unique=True), np.isin(keys[1], keys[0], assume_unique=True))
    before, after = one[here], other[there]  # both in the order of their keys
    differ = before["fate"] != after["fate"]
    source_of, fate_of = list(sources), list(names)

    def counted(table: np.ndarray, then: np.ndarray | None = None) -> Counts:
        found: Counts = defaultdict(dict)
        pairs = zip(table["source"], table["fate"], table["fate"] if then is None else then["fate"], strict=True)
        for (source, first, second), count in sorted(Counter(pairs).items()):
            name = fate_of[first] if then is None else f"{fate_of[first]}{ARROW}{fate_of[second]}"
            found[source_of[source]][name] = count
        return {source: dict(sorted(counts.items())) for source, counts in sorted(found.items())}

    return Comparison(
        _side(*a), _side(*b), same + int((~differ).sum()), counted(other[~there]), counted(one[~here]),
        counted(before[differ], after[differ]), tuple(_settings(a[1], b[1])),
    )  # fmt: skip


def _shards(store: Store, snapshot: Snapshot) -> dict[tuple[Any, ...], list[tuple[SnapshotShard, int]]]:
    """Shards of a snapshot, each with its number of rows, by what tells the fates of these rows."""
    found: dict[tuple[Any, ...], list[tuple[SnapshotShard, int]]] = defaultdict(list)
    for entry in snapshot.shards:
        decision = ledger.load_manifest(store, entry.upstream["decision"])
        train = ledger.load_manifest(store, entry.path)
        found[entry.source, decision.sha256, tuple(sorted(train.counts.items()))].append((entry, decision.rows))
    return found


def _rows(store: Store, entries: list[SnapshotShard], sources: dict[str, int], names: dict[str, int]) -> np.ndarray:
    """The rows of some shards, sorted: _ROW[N]. `repeat` numbers the rows of one uid in one source."""
    tables = [np.empty(0, _ROW)]
    for entry in entries:
        uids, found = fates(store, entry)
        table = np.zeros(len(uids), _ROW)
        table["source"] = sources.setdefault(entry.source, len(sources))
        table["uid"] = uids
        table["fate"] = [names.setdefault(fate, len(names)) for fate in found]
        tables.append(table)
    rows = np.concatenate(tables)
    rows.sort(order=["source", "uid", "fate"])
    first = np.ones(len(rows), bool)
    first[1:] = (rows["source"][1:] != rows["source"][:-1]) | (rows["uid"][1:] != rows["uid"][:-1])
    places = np.arange(len(rows))
    rows["repeat"] = places - np.maximum.accumulate(np.where(first, places, 0))
    return rows


def _key(rows: np.ndarray) -> np.ndarray:
    """Source, uid and repeat of each row in one value: bytes22[N]."""
    key = np.zeros(len(rows), np.dtype([("source", ">u2"), ("uid", "S16"), ("repeat", ">u4")]))
    for name in ("source", "uid", "repeat"):
        key[name] = rows[name]
    return key.view("S22")


def _side(store: Store, snapshot: Snapshot) -> dict[str, Any]:
    rows = sum(counts["rows"] for counts in snapshot.funnel.values())
    return {"place": store.url, "snapshot": snapshot.name, "rows": rows, "kept": snapshot.rows()}


def _settings(a: Snapshot, b: Snapshot) -> list[str]:
    found = [
        f"{name}: {_short(getattr(a, name))}{ARROW}{_short(getattr(b, name))}"
        for name in ("corpus", "stage", "spec")
        if getattr(a, name) != getattr(b, name)
    ]
    pairs: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("model", a.fingerprints.model_dump(), b.fingerprints.model_dump()),
        ("evaluation set", a.decontamination, b.decontamination),
    )
    for what, left, right in pairs:
        for name in sorted({*left, *right}):
            if left.get(name) != right.get(name):
                found.append(f"{what} {name}: {_short(left.get(name, 'none'))}{ARROW}{_short(right.get(name, 'none'))}")
    return found


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


@dataclass
class Command:
    """Compare two snapshots: which rows came, went and changed, by source and reason.

    Example: python -m pipelines.compare runs/corpora/photos@1 runs/corpora/photos
    """

    a: tyro.conf.Positional[str]
    """A corpus (its latest snapshot), or CORPUS@NUMBER, CORPUS@NAME for another of its snapshots."""
    b: tyro.conf.Positional[str]
    """What to compare it with, in the same form."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON."""


def main() -> int:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.compare")
    a, b = at(command.a), at(command.b)
    found = compare(a, b)
    if command.json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
        return 0
    _show(found, [_published(*side) for side in (a, b)])
    return 0


def _published(store: Store, snapshot: Snapshot) -> str:
    found: dict[str, SnapshotInfo] = {one.name: one for corpus in corpora(store) for one in corpus.snapshots}
    return found[snapshot.name].published.replace("T", " ").replace("Z", " UTC")


def _show(found: Comparison, published: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False)
    for letter, side, when in zip("AB", (found.a, found.b), published, strict=True):
        line = f"{letter}  {side['place']}@{side['snapshot']}, published {when}: "
        out.print(printable(line) + f"{side['rows']:,} rows, {side['kept']:,} kept", markup=False)
    for line in found.settings:
        out.print(f"   {printable(line)}", markup=False)
    table = Table(box=None, pad_edge=False)
    for head in ("", "source", "what became of them", "rows"):
        table.add_column(head, justify="right" if head == "rows" else "left")
    table.add_row("same", "", "", f"{found.same:,}")
    for what, counts in (("came", found.came), ("went", found.went), ("changed", found.changed)):
        for source, fates_of in counts.items():
            for fate, count in fates_of.items():
                table.add_row(what, escape(source), escape(fate), f"{count:,}")
    out.print(table)


if __name__ == "__main__":
    run(main)
