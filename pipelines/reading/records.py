"""Rows of the usual text formats, one at a time, each with the place it stands at for error messages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.reading.errors import SourceError
from pipelines.reading.refs import inside
from schemas.spec import Source

CHUNK = 1 << 20
"""Characters of a JSON array read at a time."""


class Record(NamedTuple):
    """One row."""

    where: str
    """File and line or row, for messages."""
    key: str
    """The same, relative to the source's folder: the sample's provenance."""
    data: dict[str, Any]
    file: str = ""
    """For Parquet, whose cells can be referred to: the file, relative to the source's folder ..."""
    row: int = 0
    """... and the number of the row in it."""

    def text(self, field: str) -> str:
        """The string `field`; "" where it is null. Raises SourceError if it is missing or no string."""
        if field not in self.data:
            found = ", ".join(self.data) or "none"
            raise SourceError(f"{self.where}: no field {field!r} (fields: {found})")
        value = self.data[field]
        return "" if value is None else as_text(value, f"{self.where}: {field}")

    def items(self, field: str) -> list[Any]:
        """The list `field`. Raises SourceError if it is missing or no list."""
        value = self.data.get(field)
        if not isinstance(value, list):
            raise SourceError(f"{self.where}: {field}: expected a list, found {short(value)}")
        return value


def as_text(value: Any, where: str) -> str:
    """`value` as a string that has a UTF-8 form (a lone surrogate becomes U+FFFD)."""
    if not isinstance(value, str):
        raise SourceError(f"{where}: expected a string, found {short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def short(value: Any) -> str:
    """`value` for a message: never more than a few words of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def files_of(source: Source, suffixes: tuple[str, ...], only: str | None = None) -> list[Path]:
    """The file `source.path`, or all files below that folder with one of the suffixes, sorted by relative path.

    Files and folders whose name starts with a dot or an underscore are left out, as most data tools do. `only` names
    one file of the folder instead (an option `file`).
    """
    path = Path(source.path)
    if only is not None:
        path = inside(path, only, f"source {source.name}: options.file")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SourceError(f"source {source.name}: {path}: no such file or folder")
    found = [file for file in walk(path) if file.name.lower().endswith(suffixes)]
    if not found:
        raise SourceError(f"source {source.name}: {path}: no file ending in {', '.join(suffixes)} below this folder")
    return found


def walk(folder: Path) -> Iterator[Path]:
    """Files below `folder`, depth first, names in order. Hidden ones are left out; linked folders are not entered."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))
        elif not entry.is_dir():
            yield Path(entry.path)


def records(path: Path, root: Path, columns: list[str] | None = None, *, json_lines: bool = False) -> Iterator[Record]:
    """The rows of a .jsonl, .json (one array), .csv, .tsv (each also .gz) or .parquet file.

    `columns` limits what is read from Parquet, and every one must exist there. With `json_lines` a .json file is read
    line by line as well. Raises SourceError at the first row that is not what the format promises.
    """
    name = path.name.lower().removesuffix(".gz")
    key = path.relative_to(root).as_posix()
    if name.endswith(".parquet"):
        yield from _parquet(path, key, columns)
        return
    with _open(path) as file:
        try:
            if name.endswith(".jsonl") or (json_lines and name.endswith(".json")):
                yield from _jsonl(file, path, key)
            elif name.endswith(".json"):
                yield from _json_array(file, path, key)
            elif name.endswith((".csv", ".tsv")):
                yield from _csv(file, path, key, "\t" if name.endswith(".tsv") else ",")
            else:
                raise SourceError(f"{path}: unknown kind of file; expected .jsonl, .json, .csv, .tsv or .parquet")
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start} of a block") from None
        except (gzip.BadGzipFile, EOFError) as error:
            raise SourceError(f"{path}: damaged or truncated gzip file: {error}") from None


def read_text(path: Path) -> str:
    """The whole of a text file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def _open(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _row(value: Any, where: str, key: str) -> Record:
    if not isinstance(value, dict):
        raise SourceError(f"{where}: expected a JSON object, found {short(value)}")
    return Record(where, key, value)


def _jsonl(file: TextIO, path: Path, key: str) -> Iterator[Record]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SourceError(f"{where}: not a JSON line ({error}); is the file cut short?") from None
        yield _row(value, where, f"{key}:{number}")


class _Scanner:
    """Takes JSON values off a stream."""

    _blank = re.compile(r"\s*")
    _decoder = json.JSONDecoder()

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.buffer = ""
        self.position = 0

    def _more(self) -> bool:
        # Doubling keeps the repeated attempts at one very long value linear in its length.
        block = self.file.read(max(CHUNK, len(self.buffer) - self.position))
        self.buffer, self.position = self.buffer[self.position :] + block, 0
        return bool(block)

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            self.position = self._blank.match(self.buffer, self.position).end()  # type: ignore[union-attr]
            if self.position < len(self.buffer) or not self._more():
                return self.buffer[self.position : self.position + 1]

    def take(self) -> str:
        """Step over that character."""
        character = self.peek()
        self.position += len(character)
        return character

    def value(self) -> Any:
        """The next value. Raises json.JSONDecodeError."""
        while True:
            try:
                value, self.position = self._decoder.raw_decode(self.buffer, self.position)
            except json.JSONDecodeError:
                if not self._more():
                    raise
            else:
                return value


def _json_array(file: TextIO, path: Path, key: str) -> Iterator[Record]:
    """Objects of one JSON array without holding the file: the big conversation sets are arrays of gigabytes."""
    scanner = _Scanner(file)
    if scanner.take() != "[":
        raise SourceError(f"{path}: expected a JSON list of objects")
    number = 0
    separator = "]" if scanner.peek() == "]" else ","
    while separator == ",":
        where = f"{path}[{number}]"
        if scanner.peek() != "{":
            raise SourceError(f"{where}: expected a JSON object; is the file cut short?")
        try:
            value = scanner.value()
        except (json.JSONDecodeError, RecursionError) as error:
            raise SourceError(f"{where}: not JSON ({error}); is the file cut short?") from None
        yield _row(value, where, f"{key}[{number}]")
        separator = scanner.take()
        number += 1
    if separator != "]" or scanner.peek() != ("]" if number == 0 else ""):
        raise SourceError(f"{path}: the JSON list does not end after element {number}; is the file cut short?")


def _csv(file: TextIO, path: Path, key: str, delimiter: str) -> Iterator[Record]:
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise SourceError(f"{where}: not {len(reader.fieldnames or ())} fields, as the header has")
            yield Record(where, f"{key}:{reader.line_num}", dict(row))
    except csv.Error as error:
        raise SourceError(f"{path}:{reader.line_num}: {error}") from None


def _parquet(path: Path, key: str, columns: list[str] | None) -> Iterator[Record]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns or ():
                if column.split(".")[0] not in names:
                    raise SourceError(f"{path}: no column {column!r} (columns: {', '.join(names)})")
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for data in batch.to_pylist():
                    yield Record(f"{path} row {number}", f"{key}:{number}", data, key, number)
                    number += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
