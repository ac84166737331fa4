"""Garbage: snapshots beyond the newest few, and every shard that no remaining snapshot uses."""

from __future__ import annotations

from pathlib import Path

from pipelines.ledger import manifest_path
from schemas.layers import LAYERS
from schemas.manifest import load_snapshot


def snapshot_names(corpus: Path) -> list[str]:
    """Names of all snapshots, oldest first (names begin with the padded number)."""
    return sorted(path.stem for path in (corpus / "snapshots").glob("*.json"))


def collect_garbage(corpus: Path, keep_last: int) -> list[str]:
    """Delete what the newest `keep_last` snapshots do not need; returns the deleted paths, relative to the corpus.

    A manifest goes before its shard, so that an interruption leaves no manifest without its file. The newest snapshot
    is never deleted. Raises ValueError for keep_last < 1, and if a snapshot that stays cannot be read.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last is {keep_last}: at least the newest snapshot stays")
    names = snapshot_names(corpus)
    keep, drop = names[-keep_last:], names[:-keep_last]
    needed: set[str] = set()
    for name in keep:
        for entry in load_snapshot(corpus, name).shards:
            for path in (entry.path, *entry.upstream.values()):
                needed |= {path, manifest_path(path)}
    deleted = []
    for name in drop:
        (corpus / "snapshots" / f"{name}.json").unlink()
        deleted.append(f"snapshots/{name}.json")
    for layer in LAYERS:
        # ".json" before ".arrow" of one shard: manifests first.
        for file in sorted((corpus / layer).glob("*/*.*"), key=lambda path: (path.stem, path.suffix != ".json")):
            relative = file.relative_to(corpus).as_posix()
            if relative not in needed and file.suffix in (".json", ".arrow"):
                file.unlink()
                deleted.append(relative)
    return deleted
