"""The rows of any file of rows: one way in for Parquet, CSV and JSON, with `where` applied."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from pipelines.reading.account import Skipped
from pipelines.reading.gate import Gate
from pipelines.reading.parquet import parquet_records
from pipelines.reading.records import KINDS, Record, text_records
from pipelines.reading.streams import COMPRESSED, bare_name
from pipelines.reading.where import Node
from schemas.reasons import Skip

SUFFIXES = (".parquet", *(kind + packed for kind in KINDS for packed in ("", *COMPRESSED)))
"""File names that `table_records` reads."""


def table_records(
    path: Path,
    gate: Gate,
    columns: Sequence[str] | None = None,
    condition: Node | None = None,
    groups: Container[int] | None = None,
    *,
    rows: str | None = None,
    json_lines: bool = False,
) -> Iterator[Record | Skipped]:
    """The rows of a file for which a condition holds, in order, and counts of the others.

    A row that cannot be read is a record with a `problem`.

    Args:
        path: a .parquet, .jsonl, .json, .csv or .tsv file; all but the first also .gz, .zst or in a .zip.
        gate: opens it.
        columns: what is needed of a table; each must be there, and nothing else is read. None: everything.
        condition: applied to the batches of a Parquet file, to each row of the others.
        groups: of a Parquet file: the row groups that can hold a row for which it holds. None: all.
        rows: of a .json file that is one object: the field with the list of rows.
        json_lines: read a .json file line by line as well.

    Raises SourceError where the file as a whole is not what its name says, or is cut short.
    """
    if bare_name(path).endswith(".parquet"):
        yield from parquet_records(path, gate, columns, condition, groups)
        return
    asked = None if columns is None else [*columns, *(condition.columns() if condition else ())]
    yield from those_that_hold(text_records(path, gate, asked, rows=rows, json_lines=json_lines), condition)


def those_that_hold(rows: Iterable[Record], condition: Node | None) -> Iterator[Record | Skipped]:
    """`rows` for which a condition holds; the others are counted."""
    for record in rows:
        if condition is None or record.problem is not None or condition.holds(record):
            yield record
        else:
            yield Skipped(Skip.WHERE, 1, record.where)
