"""Rows of the usual formats, one at a time, each with the place it stands at for error messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.json_stream import json_values
from pipelines.reading.limits import MAX_FIELDS, MAX_ROW, json_problem
from pipelines.reading.streams import Lines, Stream, reading, streams
from schemas.reasons import Outcome

csv.field_size_limit(MAX_ROW)

KINDS = (".jsonl", ".json", ".csv", ".tsv")


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
    problem: RowError | None = None
    """Why the row could not be read; then `data` is empty."""

    def get(self, field: str) -> Any:
        """The value of `field`: a column, or a path into structs and lists with dots between, "Task2.Caption" or
        "captions.0". None where it is null on the way.

        Raises RowError if there is no such field.
        """
        if field in self.data:
            return self.data[field]
        value: Any = self.data
        for part in field.split("."):
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            elif value is None:
                return None
            else:
                found = ", ".join(value) if isinstance(value, dict) else type(value).__name__
                raise RowError(f"{self.where}: no field {field!r} (fields: {found[:300] or 'none'})")
        return value

    def text(self, field: str) -> str:
        """The string `field`; "" where it is null. Raises RowError if it is missing or no string."""
        value = self.get(field)
        return "" if value is None else as_text(value, f"{self.where}: {field}")

    def name(self, field: str) -> str:
        """The string or whole number `field` as a string. Raises RowError for anything else."""
        value = self.get(field)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(field)

    def items(self, field: str) -> list[Any]:
        """The list `field`. Raises RowError if it is missing or no list."""
        value = self.get(field)
        if not isinstance(value, list):
            raise RowError(f"{self.where}: {field}: expected a list, found {short(value)}")
        return value


def as_text(value: Any, where: str) -> str:
    """`value` as a string that has a UTF-8 form (a lone surrogate becomes U+FFFD)."""
    if not isinstance(value, str):
        raise RowError(f"{where}: expected a string, found {short(value)}")
    return clean_unicode(value)


def clean_unicode(text: str) -> str:
    """`text` with a UTF-8 form: each lone surrogate becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def short(value: Any) -> str:
    """`value` for a message: never more than a few words of it."""
    text = repr(value) if not isinstance(value, str | bytes | list | dict) or len(value) < 1000 else _kind(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of length {len(value):,}"


def text_records(
    path: Path, gate: Gate, columns: Sequence[str] | None, *, rows: str | None, json_lines: bool
) -> Iterator[Record]:
    """The rows of a .jsonl, .json, .csv or .tsv file, each also .gz, .zst or in a .zip; see `tables.table_records`."""
    for stream in streams(path, gate):
        with reading(path):
            if stream.name.endswith(".jsonl") or (json_lines and stream.name.endswith(".json")):
                yield from _jsonl(stream)
            elif stream.name.endswith(".json"):
                yield from _json(stream, rows)
            elif stream.name.endswith((".csv", ".tsv")):
                yield from _csv(stream, columns, "\t" if stream.name.endswith(".tsv") else ",")
            else:
                raise SourceError(f"{stream.where}: unknown kind of file; expected {', '.join(KINDS)} or .parquet")


def _object(value: Any, where: str, key: str) -> Record:
    if isinstance(value, dict):
        return Record(where, key, value)
    return Record(where, key, {}, problem=RowError(f"{where}: expected a JSON object, found {short(value)}"))


def _jsonl(stream: Stream) -> Iterator[Record]:
    lines = Lines(stream)
    while True:
        line = None
        try:
            line = next(lines)
            if not line.strip():
                continue
            record = _object(json.loads(line), lines.place, f"{stream.key}:{lines.number}")
            if (found := json_problem(line, record.data)) is not None:
                raise RowError(f"{lines.place}: {found}", Outcome.ROW_TOO_LARGE)
        except StopIteration:
            return
        except RowError as error:
            record = Record(lines.place, f"{stream.key}:{lines.number}", {}, problem=error)
        except (ValueError, RecursionError) as error:
            cut = isinstance(error, json.JSONDecodeError)
            if cut and not lines.complete:
                raise SourceError(f"{lines.place}: not a JSON line ({error}); is the file cut short?") from None
            # What is no error of JSON is a cap of Python's: digits of a number, levels of nesting.
            outcome = Outcome.BAD_ROW if cut else Outcome.ROW_TOO_LARGE
            problem = RowError(f"{lines.place}: not a JSON line ({error})", outcome)
            record = Record(lines.place, f"{stream.key}:{lines.number}", {}, problem=problem)
        yield record


def _json(stream: Stream, rows: str | None) -> Iterator[Record]:
    for place, value, problem in json_values(stream, rows):
        where, key = f"{stream.where}[{place}]", f"{stream.key}[{place}]"
        yield _object(value, where, key) if problem is None else Record(where, key, {}, problem=problem)


def _csv(stream: Stream, columns: Sequence[str] | None, delimiter: str) -> Iterator[Record]:
    lines = Lines(stream)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise SourceError(f"{lines.place}: {error}") from None
    if len(header) > MAX_FIELDS:
        raise SourceError(f"{stream.where}: {len(header):,} columns, more than {MAX_FIELDS:,}")
    require_columns(header, columns, stream.where)
    while True:
        problem, row = None, []
        try:
            row = next(reader)
        except StopIteration:
            return
        except RowError as error:
            problem = error
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise SourceError(f"{lines.place}: {error}; is the file cut short?") from None
            outcome = Outcome.ROW_TOO_LARGE if "field limit" in str(error) else Outcome.BAD_ROW
            problem = RowError(f"{lines.place}: {error}", outcome)
        if problem is None and not row:
            continue
        if problem is None and len(row) != len(header):
            problem = RowError(f"{lines.place}: not {len(header)} fields, as the header has, but {len(row)}")
        data = {} if problem else dict(zip(header, row, strict=True))
        yield Record(lines.place, f"{stream.key}:{lines.number}", data, problem=problem)


def require_columns(names: Sequence[str], columns: Sequence[str] | None, where: str) -> None:
    """Raise SourceError for the first of `columns` (or its column, of a path into structs) that a table lacks."""
    for column in columns or ():
        if column not in names and column.split(".")[0] not in names and column != "__key__":
            raise SourceError(f"{where}: no column {column!r} (columns: {', '.join(names)[:500]})")
