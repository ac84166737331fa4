"""Which snapshot somebody means, and what the fate of its rows was."""

from __future__ import annotations

import re

from pipelines import ledger
from pipelines.steps.collect_garbage import snapshot_names
from schemas.manifest import Snapshot, SnapshotShard, load_snapshot
from schemas.reasons import Drop, Outcome
from storage.places import Place, as_store
from storage.store import Store

_NAME = re.compile(r"(\d{1,9})(-[0-9a-f]{0,12})?")


def find_snapshot(corpus: Place, wanted: str | None = None) -> Snapshot:
    """The snapshot of a corpus that `wanted` means: its number, its name or the beginning of that; None: the latest.

    Raises FileNotFoundError or ValueError with one line.
    """
    store = as_store(corpus)
    if wanted is None:
        return load_snapshot(store)
    names = snapshot_names(store)
    match = _NAME.fullmatch(wanted)
    number, rest = (f"{int(match[1]):05d}", match[2]) if match else ("", None)
    found = [name for name in names if match and name.startswith(f"{number}{rest or '-'}")]
    if len(found) > 1 and rest is None:  # a build that was killed before LATEST leaves a second of the same number
        latest = load_snapshot(store).name
        found = [name for name in found if name == latest] or found
    if len(found) != 1:
        there = ", ".join(found or names) or "no snapshot"
        raise FileNotFoundError(f"{store.url}: {wanted!r} does not name one snapshot; there is {there}")
    return load_snapshot(store, found[0])


def at(place: str) -> tuple[Store, Snapshot]:
    """A corpus and one of its snapshots, from `CORPUS` (the latest) or `CORPUS@SNAPSHOT`. Raises as `find_snapshot`."""
    corpus, mark, wanted = place.rpartition("@")
    if not mark or not _NAME.fullmatch(wanted):
        corpus, wanted = place, ""
    store = as_store(corpus)
    if store.folder is not None and not store.folder.is_dir():
        raise FileNotFoundError(f"{corpus}: no such corpus folder")
    return store, find_snapshot(store, wanted or None)


def fates(corpus: Store, entry: SnapshotShard) -> tuple[list[bytes], list[str]]:
    """Uid of every row of a shard, and what became of it: an outcome, a reason, or `kept`.

    What tokenizing dropped has no reason of its own in any layer: where its manifest does not tell, it is called
    "too_long or tokenize_failed". Raises ShardError.
    """
    table = ledger.open_input(corpus, entry.upstream["decision"])[1].table(["uid", "outcome", "reason"])
    manifest, train = ledger.open_input(corpus, entry.path)
    kept = set(train.table(["uid"]).column("uid").to_pylist())
    late = [drop.value for drop in (Drop.TOO_LONG, Drop.TOKENIZE_FAILED) if manifest.counts.get(drop)]
    uids, found = table.column("uid").to_pylist(), []
    for uid, outcome, reason in zip(
        uids, table.column("outcome").to_pylist(), table.column("reason").to_pylist(), strict=True
    ):
        if outcome != Outcome.OK:
            found.append(outcome)
        elif reason:
            found.append(reason)
        else:
            found.append(Drop.KEPT.value if uid in kept else " or ".join(late))
    return uids, found
