"""Garbage: snapshots beyond the newest few, and every spec, shard and stored answer that none of the rest uses."""

from __future__ import annotations

import math
import time
from pathlib import PurePosixPath

from pipelines.ledger import GRACE_S, manifest_path, shard_files
from pipelines.recaption.journal import FOLDER as ANSWERS
from schemas.manifest import Snapshot, load_snapshot, spec_path
from storage.places import Place, as_store
from storage.store import plain_key


def snapshot_names(corpus: Place) -> list[str]:
    """Names of all snapshots, by number."""
    keys = (PurePosixPath(entry.key) for entry in as_store(corpus).list("snapshots"))
    return sorted(key.stem for key in keys if key.suffix == ".json")


def newest(corpus: Place, count: int) -> list[Snapshot]:
    """The snapshot that LATEST names and those it grew from, newest first, at most `count`.

    Not the last by name: a build that was killed between its snapshot and LATEST leaves one with the number of the
    next. The line ends where an earlier collection took the parent.
    """
    line = [load_snapshot(corpus)]
    while len(line) < count and (parent := line[-1].parent) is not None:
        if as_store(corpus).size(f"snapshots/{parent}.json") is None:
            break
        line.append(load_snapshot(corpus, parent))
    return line


def collect_garbage(corpus: Place, keep_last: int) -> list[str]:
    """Delete what the newest `keep_last` snapshots do not need; returns the deleted paths, relative to the corpus.

    The newest is the one that LATEST names; those before it are its parents. A manifest goes before its shard, so that
    an interruption leaves no manifest without its file. In an object store, what is younger than a day stays: another
    build may have made it and not published yet. Raises ValueError for keep_last < 1, and ValueError or
    FileNotFoundError if a snapshot that stays cannot be read.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last is {keep_last}: at least the newest snapshot stays")
    store = as_store(corpus)
    keep = newest(store, keep_last)
    needed: set[str] = set()
    for snapshot in keep:
        for entry in snapshot.shards:
            for path in (entry.path, *entry.upstream.values()):
                needed |= {path, manifest_path(path)}
    deleted = []
    for name in sorted({*snapshot_names(corpus)} - {snapshot.name for snapshot in keep}):
        store.delete(f"snapshots/{name}.json")
        deleted.append(f"snapshots/{name}.json")
    specs = {spec_path(snapshot) for snapshot in keep}
    young = time.time() - GRACE_S if store.folder is None else math.inf
    for file in sorted(store.list("specs"), key=lambda file: file.key):
        if file.key not in specs and file.modified < young:
            store.delete(file.key)
            deleted.append(file.key)
    for file in list(store.list(ANSWERS)):  # for shards of another spec: the build before this ended its own
        store.delete(file.key)
        deleted.append(file.key)
    for file in shard_files(store):
        if plain_key(file.key) not in needed and file.modified < young:
            store.delete(file.key)
            deleted.append(file.key)
    return deleted
