"""Which rows a takedown list names.

A row goes if the list has its uid, or the address (asked for, or redirected to), host or SHA-256 of one of its
pictures; and so does every row with a picture of the same SHA-256, wherever that comes from. Of a row named by its uid,
all pictures are taken down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.removal.entries import Entries
from schemas.manifest import ShardManifest
from storage.places import open_fetched
from storage.store import Store


class Picture(NamedTuple):
    """What is known of a picture of a row."""

    sha256: bytes | None
    addresses: tuple[str | None, ...]


class Row(NamedTuple):
    """A row of the rows or raw layer."""

    uid: bytes
    pictures: tuple[Picture, ...]


@dataclass
class Match:
    """What a list names."""

    rows: dict[int, bytes] = field(default_factory=dict)
    """Place of each row in the order they were met, and its uid."""
    pictures: set[bytes] = field(default_factory=set)
    """SHA-256 of their pictures that are taken down."""
    hits: set[str] = field(default_factory=set)
    """Entries that named something, as lines of a list."""


def match(entries: Entries, rows: Iterable[Row]) -> Match:
    """The rows that `entries` name."""
    found = Match()
    for place, row in enumerate(rows):
        hits, pictures = set(), set()
        for picture in row.pictures:
            named = set().union(*map(entries.naming, picture.addresses))
            if picture.sha256 in entries.sha256:
                named.add(picture.sha256.hex())
            if picture.sha256 and (named or row.uid in entries.uids):
                pictures.add(picture.sha256)
            hits |= named
        if row.uid in entries.uids:
            hits.add(row.uid.hex())
        if hits:
            found.rows[place] = row.uid
            found.pictures |= pictures
            found.hits |= hits
    return found


def match_all(entries: Entries, look: Callable[[Entries], Match]) -> tuple[Match, Match]:
    """What `look` finds for the entries, and then for further rows with the same pictures."""
    first = look(entries)
    others = frozenset(first.pictures) - entries.sha256
    return first, look(Entries(sha256=others)) if others else Match()


def rows_of(corpus: Store, manifest: ShardManifest) -> Iterator[Row]:
    """The rows of a shard of the rows or raw layer whose content was checked before. Bytes of pictures are not read."""
    reader = open_fetched(corpus, ledger.path_of(manifest), manifest.sha256, manifest.bytes, _mapped)
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        counts = pc.list_value_length(batch.column("images")).to_pylist()
        images = batch.column("images").flatten()
        names = ["url", "final_url"] if manifest.layer == "raw" else ["url"]
        addresses = zip(*(pc.struct_field(images, name).to_pylist() for name in names), strict=True)
        hashes = (_bytes(value) for value in pc.struct_field(images, "sha256").to_pylist())
        pictures = (Picture(sha256, places) for sha256, places in zip(hashes, addresses, strict=True))
        for uid, count in zip(batch.column("uid").to_pylist(), counts, strict=True):
            yield Row(uid, tuple(next(pictures) for _ in range(count)))


def _bytes(value: bytes | str | None) -> bytes | None:
    """A SHA-256 as raw shards have it; rows shards have it in hex, as their source wrote it."""
    if not isinstance(value, str):
        return value
    try:
        return bytes.fromhex(value)
    except ValueError:
        return None


def _mapped(path: Path) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))
