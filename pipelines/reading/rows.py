"""From rows to samples: what every format does with the rows it reads, so that each of them has a fate."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.reading.account import Failed, Skipped
from pipelines.reading.errors import RowError, SkipRow
from pipelines.reading.files import files_of
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.limits import MAX_TEXT
from pipelines.reading.options import FileOptions
from pipelines.reading.records import Record, clean_unicode
from pipelines.reading.row_groups import matching_groups
from pipelines.reading.streams import bare_name
from pipelines.reading.tables import SUFFIXES, table_records
from pipelines.reading.where import Node, parse_where
from schemas.reasons import Outcome
from schemas.sample import Sample
from schemas.spec import Source

Item = Sample | Skipped | Failed
"""What `read` of a format yields."""


STATISTICS_FROM = 16 << 20
"""Bytes of Parquet from which on it pays to start a process that looks at statistics."""


@dataclass(frozen=True)
class Table:
    """The rows of a source that lies in files of rows."""

    source: Source
    options: FileOptions
    columns: Sequence[str] | None = None
    """What is read of each table; None: everything."""
    suffixes: tuple[str, ...] = SUFFIXES
    json_lines: bool = False

    @cached_property
    def gate(self) -> Gate:
        """Of the source's folder."""
        return gate_of(self.source)

    @cached_property
    def condition(self) -> Node | None:
        """The source's `where`."""
        return condition_of(self.source)

    def files(self) -> list[Path]:
        """The source's files, in order."""
        return files_of(self.source, self.gate, self.suffixes, self.options)

    def rows(self) -> Iterator[Record | Skipped]:
        """The rows of all files for which `where` holds, in order, and counts of the others."""
        _ = self.condition  # a mistake in it is told before any file is looked for
        for file in self.files():
            yield from self.rows_of(file)

    def rows_of(self, file: Path) -> Iterator[Record | Skipped]:
        """The rows of one file."""
        columns = None if self.columns is None else [*self.columns, *self.source.columns]
        groups = self._groups.get(file) if self.condition is not None else None
        options = self.options
        return table_records(
            file, self.gate, columns, self.condition, groups, rows=options.rows, json_lines=self.json_lines
        )

    @cached_property
    def _groups(self) -> dict[Path, set[int] | None]:
        """The row groups of each Parquet file that `where` may hold for; nothing of files that are soon read."""
        files = [file for file in self.files() if bare_name(file).endswith(".parquet")]
        size = 0
        for file in files:
            with self.gate.open_data(file) as opened:
                size += os.fstat(opened.fileno()).st_size
        if size < STATISTICS_FROM:
            return {}
        places = [Path(self.gate.resolve(file)) for file in files]
        found = matching_groups(places, self.source.where) if files and self.source.where else []
        return dict(zip(files, found, strict=True))


def condition_of(source: Source) -> Node | None:
    """The source's `where`. Raises SourceError with the place where it is wrong."""
    return None if source.where is None else parse_where(source.where, f"source {source.name}: where")


def samples(
    source: Source, rows: Iterable[Record | Skipped], make: Callable[[Record], Sample | Sequence[Item]]
) -> Iterator[Item]:
    """What `make` makes of each row. A RowError from it is a failed row, a SkipRow a skipped one."""
    for row in rows:
        if isinstance(row, Skipped):
            yield row
            continue
        try:
            if row.problem is not None:
                raise row.problem
            made = make(row)
            for item in (made,) if isinstance(made, Sample) else made:
                yield finished(source, item, row) if isinstance(item, Sample) else item
        except RowError as error:
            yield Failed(clean_unicode(row.key), error)
        except SkipRow as skip:
            yield Skipped(skip.reason, 1, row.where)


def finished(source: Source, sample: Sample, row: Record) -> Sample:
    """`sample` with the columns that are to be kept. Raises RowError if it holds more text than a row may."""
    if (size := sum(len(message.text) for message in sample.messages)) > MAX_TEXT:
        raise RowError(f"{row.where}: {size:,} characters of text, more than {MAX_TEXT:,}", Outcome.ROW_TOO_LARGE)
    update: dict[str, Any] = {"key": clean_unicode(sample.key)}
    if source.columns:
        update["columns"] = {name: _plain(row, name) for name in source.columns}
    return sample.model_copy(update=update)


def _plain(row: Record, name: str) -> str | int | float | bool | None:
    """A column as it can be kept. Raises RowError for lists, structs and bytes."""
    value = row.get(name)
    if isinstance(value, str):
        return clean_unicode(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    raise RowError(f"{row.where}: {name}: expected a number or a string to keep, found {type(value).__name__}")
