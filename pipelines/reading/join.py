"""Captions from another file, looked up by key: what is published apart from the images.

The captions are sorted by the hash of their key into one file on disk, in parts that fit in memory, and found there by
binary search through a memory map. So memory does not grow with the number of captions.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipelines.reading.account import Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.files import Patterns, walk
from pipelines.reading.gate import Gate
from pipelines.reading.limits import MAX_TEXT
from pipelines.reading.options import Options
from pipelines.reading.records import as_text
from pipelines.reading.tables import table_records

ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("number", "<i8"), ("offset", "<i8"), ("size", "<i8")])
PART_BYTES = 32 << 20
"""Sorted in memory at a time."""


class Join(Options):
    """Where the captions are (`[sources.options.join]`)."""

    file: str
    """Pattern of the files with the captions, relative to the source's path: anything with rows, or a .tar or .tar.gz
    with a text file for each key."""
    on: str = "__key__"
    """Field of the source's rows that names the caption. `__key__`: the image's name without folder and suffix."""
    key: str | None = None
    """The field of the same in the file of captions, if it is called otherwise there. In a tar: the member's name."""
    caption: str = "caption"
    """Field with the caption."""
    rows: str | None = None
    """Of a .json file that is one object: the field with the list of rows."""


class Captions:
    """Captions by key."""

    def __init__(self, join: Join, gate: Gate, source: str, limit: int | None = None) -> None:
        """Read the files of captions, or no more than `limit` captions of them.

        The first caption of a key counts; empty ones do not.

        Raises SourceError if there is no such file, or one cannot be read.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="janus-forge-join-")
        folder = Path(self._folder.name)
        self._texts: BinaryIO = (folder / "texts").open("w+b")
        patterns = Patterns([join.file])
        files = [file for file in walk(gate, gate.root) if patterns.match(gate.relative(file))]
        if not files:
            raise SourceError(f"source {source}: options.join.file: {gate.root}: no file matches {join.file}")
        entries = 0
        with (folder / "entries").open("wb") as unsorted:
            block = np.zeros(4096, ENTRY)
            filled = offset = 0
            for key, text in islice((pair for file in files for pair in _pairs(file, gate, join)), limit):
                data = text.encode()
                if not data:
                    continue
                self._texts.write(data)
                block[filled] = (*_hash(key), entries, offset, len(data))
                offset, filled, entries = offset + len(data), filled + 1, entries + 1
                if filled == len(block):
                    unsorted.write(block.tobytes())
                    filled = 0
            unsorted.write(block[:filled].tobytes())
        if not entries:
            raise SourceError(f"source {source}: options.join.file: {files[0]}: no caption in it")
        self._texts.flush()
        self._index, self._high = _sorted(folder, entries)

    def any(self) -> str:
        """One of the captions."""
        return os.pread(self._texts.fileno(), int(self._index[0]["size"]), int(self._index[0]["offset"])).decode()

    def get(self, key: str) -> str | None:
        """The caption of `key`, or None."""
        high, low = _hash(key)
        at = int(np.searchsorted(self._high, np.uint64(high)))
        while at < len(self._high) and int(self._high[at]) == high:
            entry = self._index[at]
            if int(entry["low"]) == low:
                return os.pread(self._texts.fileno(), int(entry["size"]), int(entry["offset"])).decode()
            at += 1
        return None


def _hash(key: str) -> tuple[int, int]:
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def _sorted(folder: Path, entries: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries sorted by hash, then as they came, and the first halves of their hashes: two memory maps.

    They are cut into parts by the top bits of the hash first, and each part is sorted in memory.
    """
    parts = 1
    while parts * PART_BYTES < entries * ENTRY.itemsize and parts < 1024:
        parts *= 2
    files = [(folder / f"part{number}").open("w+b") for number in range(parts)]
    per_read = PART_BYTES // ENTRY.itemsize
    with (folder / "entries").open("rb") as unsorted:
        while len(block := np.fromfile(unsorted, ENTRY, per_read)):
            numbers = (
                (block["high"] // np.uint64(2**64 // parts)).astype(int) if parts > 1 else np.zeros(len(block), int)
            )
            for number in np.unique(numbers):
                block[numbers == number].tofile(files[number])
    with (folder / "index").open("wb") as index, (folder / "high").open("wb") as high:
        for file in files:
            file.flush()
            file.seek(0)
            part = np.fromfile(file, ENTRY)
            part = part[np.lexsort((part["number"], part["low"], part["high"]))]
            part.tofile(index)
            np.ascontiguousarray(part["high"]).tofile(high)
            file.close()
            os.unlink(file.name)
    os.unlink(folder / "entries")
    return np.memmap(folder / "index", ENTRY, mode="r"), np.memmap(folder / "high", "<u8", mode="r")


def _pairs(file: Path, gate: Gate, join: Join) -> Iterator[tuple[str, str]]:
    """(key, caption) of each row of a file of captions; rows without either are left out."""
    if file.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        yield from _texts_in_tar(file, gate)
        return
    key = join.key or join.on
    for record in table_records(file, gate, [key, join.caption], rows=join.rows):
        if isinstance(record, Skipped):
            continue  # there is no condition
        if record.problem is not None:
            raise SourceError(f"options.join: {record.problem}")
        value = record.get(join.caption)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None and len(text := as_text(value, f"{record.where}: {join.caption}").strip()) <= MAX_TEXT:
            yield record.name(key), text


def _texts_in_tar(file: Path, gate: Gate) -> Iterator[tuple[str, str]]:
    try:
        with gate.open_data(file) as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isreg() and member.size <= MAX_TEXT else None
                if stream is not None and member.name.endswith(".txt"):
                    yield stem(member.name), stream.read().decode().strip()
                archive.members = []  # type: ignore[attr-defined]
    except RowError:
        raise
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: a caption is not UTF-8 text: {error.reason}") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{file}: not a readable tar file ({error})") from None


def stem(name: str) -> str:
    """The name of a file without folders and without its suffix: the key that image and caption share."""
    return name.rpartition("/")[2].partition(".")[0]
