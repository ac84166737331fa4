"""List the corpora below a folder or address, with their snapshots.

python -m pipelines.list runs/corpora
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

import tyro

from janus.cli import parse, run
from pipelines.ledger import is_shard_file, manifest_path
from schemas.manifest import Snapshot, latest_name, load_snapshot
from schemas.printable import printable
from schemas.sample import TASKS
from storage.places import Place, as_store, below
from storage.store import Listed, Store, plain_key

_OF_A_CORPUS = re.compile(
    r"(?:(?P<corpus>.*)/)?(?:snapshots/\d{5}-[0-9a-f]{12}\.json|rows/[^/]+/[0-9a-f]+\.[0-9a-f.]+\.(?:arrow|json))"
)
"""Keys by which a corpus is known, the place before them."""


@dataclass(frozen=True)
class SnapshotInfo:
    """One snapshot."""

    name: str
    number: int
    stage: int
    rows: dict[str, int]
    """Rows to train on, by task."""
    shards: int
    bytes: int
    """Of the files it needs, all layers; snapshots share files."""
    train_bytes: int
    """Of these, what a training run reads."""
    published: str
    """When its file was written, ISO 8601, UTC. A purge writes it anew."""
    latest: bool
    """Whether LATEST names it."""


@dataclass(frozen=True)
class CorpusInfo:
    """One corpus."""

    place: str
    name: str | None
    """None if it has no readable snapshot."""
    bytes: int
    """Of everything in it."""
    unused_bytes: int
    """Of shards that no snapshot needs: of a build that has not ended, or for `--keep-last` to delete."""
    snapshots: tuple[SnapshotInfo, ...]
    problems: tuple[str, ...]
    """Snapshots that cannot be read, a line each."""


def corpora(root: Place) -> list[CorpusInfo]:
    """Every corpus at `root` or below it, by place. One listing; nothing but snapshots is read.

    Raises FileNotFoundError if there is no such folder.
    """
    store = as_store(root)
    if store.folder is not None and not store.folder.is_dir():
        raise FileNotFoundError(f"{store.url}: no such folder")
    entries = list(store.list())
    places = {match["corpus"] or "" for entry in entries if (match := _OF_A_CORPUS.fullmatch(entry.key))}
    files: dict[str, list[Listed]] = defaultdict(list)
    for entry in entries:
        for folder in PurePosixPath(entry.key).parents:
            if (place := "" if str(folder) == "." else str(folder)) in places:
                files[place].append(entry)
                break
    return [_corpus(below(store, place) if place else store, place, files[place]) for place in sorted(places)]


def _corpus(store: Store, place: str, entries: Iterable[Listed]) -> CorpusInfo:
    files = {plain_key(entry.key[len(place) :].lstrip("/")): entry for entry in entries}
    snapshots, problems = [], []
    for key in sorted(files):
        if PurePosixPath(key).parent.name == "snapshots" and key.count("/") == 1 and key.endswith(".json"):
            try:
                snapshots.append(load_snapshot(store, PurePosixPath(key).stem))
            except (ValueError, FileNotFoundError) as error:
                problems.append(str(error))
    latest = latest_name(store)
    used: set[str] = set()
    found = []
    for snapshot in snapshots:
        needed = {key for key in _needed(snapshot) if key in files}
        used |= needed
        found.append(
            SnapshotInfo(
                snapshot.name,
                snapshot.number,
                snapshot.stage,
                {task: rows for task in TASKS if (rows := snapshot.rows(task))},
                len(snapshot.shards),
                sum(files[key].size for key in needed),
                sum(shard.bytes for shard in snapshot.shards),
                _iso(files[f"snapshots/{snapshot.name}.json"].modified),
                snapshot.name == latest,
            )
        )
    shards = {key for key in files if is_shard_file(key)}
    return CorpusInfo(
        store.url,
        snapshots[-1].corpus if snapshots else None,
        sum(entry.size for entry in files.values()),
        sum(files[key].size for key in shards - used),
        tuple(found),
        tuple(problems),
    )


def _needed(snapshot: Snapshot) -> Iterable[str]:
    for shard in snapshot.shards:
        for path in (shard.path, *shard.upstream.values()):
            yield from (path, manifest_path(path))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Command:
    """List corpora: snapshots, rows, sizes, stage, and when each was published.

    Example: python -m pipelines.list runs/corpora
    """

    root: tyro.conf.Positional[str]
    """Folder or address (s3://, gs://, az://) at or below which the corpora lie."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON, with sizes in bytes."""


def main() -> int:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.list")
    found = corpora(command.root)
    if command.json:
        print(json.dumps([asdict(corpus) for corpus in found], indent=2, ensure_ascii=False))
    elif found:
        _show(found)
    else:
        raise FileNotFoundError(f"{command.root}: no corpus here or below; build one with python -m pipelines.build")
    return 1 if any(corpus.problems for corpus in found) else 0


def _show(found: Iterable[CorpusInfo]) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    out = Console(highlight=False)
    for corpus in found:
        unused = f", {decimal(corpus.unused_bytes)} of it in no snapshot" if corpus.unused_bytes else ""
        title = printable(f"{corpus.place}: {corpus.name or 'no snapshot yet'}")
        out.print(f"{title}, {decimal(corpus.bytes)} on disk{unused}", markup=False)
        table = Table(box=None, pad_edge=False)
        for head in ("snapshot", "stage", "rows", "by task", "shards", "needs", "to train on", "published"):
            right = head in ("stage", "rows", "shards", "needs", "to train on")
            table.add_column(head, justify="right" if right else "left", no_wrap=head in ("snapshot", "rows"))
        for one in corpus.snapshots:
            table.add_row(
                f"{one.name}{' *' if one.latest else ''}",
                str(one.stage),
                f"{sum(one.rows.values()):,}",
                ", ".join(f"{task} {rows:,}" for task, rows in one.rows.items()),
                f"{one.shards:,}",
                decimal(one.bytes),
                decimal(one.train_bytes),
                one.published.replace("T", " ").replace("Z", ""),
            )
        if corpus.snapshots:
            out.print(table)
        for problem in corpus.problems:
            out.print(printable(problem), markup=False)
        out.print()
    out.print("* the latest; times are UTC; snapshots share files", style="dim")


if __name__ == "__main__":
    run(main)
