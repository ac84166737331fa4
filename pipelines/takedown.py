"""Take rows down: leave them out of the next snapshot, and remove their bytes if asked to (design D18).

python -m pipelines.takedown runs/corpora/photos list.txt
python -m pipelines.takedown runs/corpora/photos list.txt --purge
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tyro

from janus.cli import console, parse, run
from pipelines.removal.entries import Entries, Purge, keep_list, pending, read_list
from pipelines.removal.purge import OnShard, find, purge
from schemas.printable import printable
from storage.places import as_store
from storage.store import Store

SHOWN = 20
"""Entries without a match that are printed."""


@dataclass
class Command:
    """Leave rows out of the next snapshot of a corpus, and with --purge remove their bytes from all there are.

    Example: python -m pipelines.takedown runs/corpora/photos list.txt --purge
    """

    corpus: tyro.conf.Positional[str]
    """Folder or address (s3://, gs://, az://) of one corpus."""
    list: tyro.conf.Positional[Path | None] = None
    """What to take down, one a line: an address, a host, the SHA-256 of a picture (hex) or a uid (hex); # begins a
    comment. May be left out only to end a purge that was interrupted."""
    purge: tyro.conf.FlagCreatePairsOff[bool] = False
    """Remove the bytes of the rows from every layer of every snapshot. There is no way back."""


def main() -> int:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.takedown")
    store = as_store(command.corpus)
    if store.folder is not None and not store.folder.is_dir():
        raise FileNotFoundError(f"{store.url}: no such corpus folder")
    if command.list is None and not (command.purge and pending(store)):
        raise ValueError("no LIST given, and no interrupted purge to end (see python -m pipelines.takedown --help)")
    entries = read_list(command.list) if command.list else None
    if entries:
        keep_list(store, entries)
    with _progress() as on_shard:
        if command.purge:
            done = purge(store, entries, on_shard)
        else:
            assert entries is not None
            _preview(store, entries, on_shard)
            return 0
    for record in done:
        _say(store, record)
    if not done:
        print(f"{store.url}: no row of the list is in the corpus; rows that come later are left out")
    return 0


def _preview(store: Store, entries: Entries, on_shard: OnShard) -> None:
    uids, named, same = find(store, entries, on_shard)
    print(f"{store.url}: {len(uids)} rows match; the next build leaves them out (taken_down)")
    without = sorted({*entries.lines()} - named.hits - same.hits)
    for line in without[:SHOWN]:
        print(f"  names nothing in the corpus today: {printable(line)}")
    if len(without) > SHOWN:
        print(f"  and {len(without) - SHOWN} more")


def _say(store: Store, record: Purge) -> None:
    print(f"{store.url}: {len(record.uids)} rows removed, {record.time}")
    for old, new in sorted(record.snapshots.items()):
        print(f"  snapshot {old} is now {new}")


@contextmanager
def _progress() -> Iterator[OnShard]:
    with console().status("looking") as status:
        yield lambda path: status.update(printable(path))


if __name__ == "__main__":
    run(main)
