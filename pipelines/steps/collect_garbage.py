"""Garbage: snapshots beyond the newest few, and every shard that no remaining snapshot uses."""

from __future__ import annotations

from pathlib import Path

from pipelines.ledger import manifest_path, shard_files
from pipelines.shardio import finished
from schemas.manifest import Snapshot, load_snapshot


def snapshot_names(corpus: Path) -> list[str]:
    """Names of all snapshots, by number."""
    return [path.stem for path in finished(corpus / "snapshots", "*.json")]


def newest(corpus: Path, count: int) -> list[Snapshot]:
    """The snapshot that LATEST names and those it grew from, newest first, at most `count`.

    Not the last by name: a build that was killed between its snapshot and LATEST leaves one with the number of the
    next. The line ends where an earlier collection took the parent.
    """
    line = [load_snapshot(corpus)]
    while len(line) < count and (parent := line[-1].parent) is not None:
        if not (corpus / "snapshots" / f"{parent}.json").is_file():
            break
        line.append(load_snapshot(corpus, parent))
    return line


def collect_garbage(corpus: Path, keep_last: int) -> list[str]:
    """Delete what the newest `keep_last` snapshots do not need; returns the deleted paths, relative to the corpus.

    The newest is the one that LATEST names; those before it are its parents. A manifest goes before its shard, so that
    an interruption leaves no manifest without its file. Raises ValueError for keep_last < 1, and ValueError or
    FileNotFoundError if a snapshot that stays cannot be read.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last is {keep_last}: at least the newest snapshot stays")
    keep = newest(corpus, keep_last)
    needed: set[str] = set()
    for snapshot in keep:
        for entry in snapshot.shards:
            for path in (entry.path, *entry.upstream.values()):
                needed |= {path, manifest_path(path)}
    deleted = []
    for name in sorted({*snapshot_names(corpus)} - {snapshot.name for snapshot in keep}):
        (corpus / "snapshots" / f"{name}.json").unlink()
        deleted.append(f"snapshots/{name}.json")
    for path in shard_files(corpus):
        if path not in needed:
            (corpus / path).unlink()
            deleted.append(path)
    return deleted
