"""How many rows a source has, without reading it: from Parquet footers, or from the size of its files.

Where rows lie is told by the key of the first one: `file:line`, `file[element]`, `tar/member`, or the path of an image.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow.parquet as pq

from pipelines.reading.files import files_of, walk
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.options import FileOptions
from pipelines.reading.parquet import one_line
from pipelines.reading.records import text_records
from pipelines.reading.refs import IMAGE_SUFFIXES
from pipelines.reading.streams import COMPRESSED, bare_name
from pipelines.reading.tars import members
from schemas.spec import Source

SECONDS = 2.0
"""Time for counting one source. What is not counted by then is taken to be like what is."""
SAMPLE_BYTES = 16 << 20
"""Of a file of text, read to learn how many rows it has per byte: much more than is read ahead."""
_ROW = re.compile(r"(?P<file>.+?\.(?:parquet|jsonl|json|csv|tsv)(?:\.gz|\.zst|\.zip/.*?)?)(?::\d+|\[.*?\])(?:#.*)?")


class Count(NamedTuple):
    """A number of rows."""

    rows: int
    exact: bool


def base_key(key: str) -> str:
    """The row of a file that a sample is made from: several may be made from one ("file:7#0" and "file:7#1")."""
    return key.partition("#")[0]


def rows_in_files(source: Source, key: str) -> Count:
    """Rows in the files of a source, one of whose samples has this key.

    Raises SourceError or RowError where a file cannot be read.
    """
    gate = gate_of(source)
    until = time.monotonic() + SECONDS
    if (found := _ROW.fullmatch(key)) is not None:
        files = _files(source, gate, found["file"])
        if bare_name(files[0]).endswith(".parquet"):
            return Count(sum(_in_footer(file, gate) for file in files), True)
        return _in_text(source, gate, files, until)
    if ".tar/" in key:
        return _in_tars(gate, files_of(source, gate, (".tar",), _file_options(source)), until)
    suffixes = {".txt"} if base_key(key).endswith(".txt") else IMAGE_SUFFIXES
    return Count(sum(file.suffix.lower() in suffixes for file in walk(gate, gate.root)), False)


def _file_options(source: Source) -> FileOptions:
    return FileOptions(
        **{name: source.options[name] for name in ("files", "exclude", "rows") if name in source.options}
    )


def _files(source: Source, gate: Gate, file: str) -> list[Path]:
    """The files of rows of a source, of which `file` is one."""
    options = _file_options(source)
    if source.format == "image_folder" and not options.files:
        return [gate.root / file]
    name = file.lower().partition(".zip/")[0]
    packed = ".zip" if ".zip/" in file.lower() else next((end for end in COMPRESSED if name.endswith(end)), "")
    return files_of(source, gate, (Path(name.removesuffix(packed)).suffix + packed,), options)


def _in_footer(file: Path, gate: Gate) -> int:
    with gate.open_data(file) as opened, one_line(file):
        return int(pq.read_metadata(opened).num_rows)


class _Watched(Gate):
    """A gate that shows how far the file it opened last has been read."""

    def __init__(self, gate: Gate) -> None:
        self.__dict__.update(gate.__dict__)
        self.last: BinaryIO | None = None

    def open(self, path: Path, where: str = "") -> BinaryIO:
        """As any gate."""
        self.last = super().open(path, where)
        return self.last

    def position(self) -> int:
        """Bytes read of it."""
        return 0 if self.last is None or self.last.closed else self.last.tell()


def _in_text(source: Source, gate: Gate, files: Sequence[Path], until: float) -> Count:
    watched, options = _Watched(gate), _file_options(source)
    sizes = [file.stat().st_size for file in files]
    rows = read = 0
    for file, size in zip(files, sizes, strict=True):
        position = 0
        for _ in text_records(file, watched, None, rows=options.rows, json_lines=source.format == "text"):
            rows, position = rows + 1, watched.position()
            if read + position > SAMPLE_BYTES or time.monotonic() > until:
                return Count(_scaled(rows, read + position, sum(sizes)), False)
        read += size
    return Count(rows, True)


def _in_tars(gate: Gate, files: Sequence[Path], until: float) -> Count:
    sizes = [file.stat().st_size for file in files]
    rows = read = 0
    for file, size in zip(files, sizes, strict=True):
        last = None
        for member in members(file, gate):
            name = member.name.rpartition("/")[0], member.name.rpartition("/")[2].partition(".")[0]
            rows, last = rows + (name != last), name
            if time.monotonic() > until:
                return Count(_scaled(rows, read + member.offset + member.size, sum(sizes)), False)
        read += size
    return Count(rows, True)


def _scaled(rows: int, read: int, size: int) -> int:
    return round(rows * size / max(1, min(read, size)))
