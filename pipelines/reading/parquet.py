"""Rows of Parquet files, with a bound on what is in memory.

Parquet can hold much in little: a value that is stored once and repeated by its number in a dictionary, or a page of
zeros. So text and binary columns are read with their dictionaries, which is as small as they are stored; how large a
row would become is added up first, and only then is it made.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.reading.account import Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.limits import FREE_EXPANSION, MAX_CELLS, MAX_FIELDS, MAX_RATIO, MAX_ROW
from pipelines.reading.records import Record, require_columns
from pipelines.reading.where import Node
from schemas.reasons import Outcome, Skip

BATCH_BYTES = 32 << 20
"""Of rows that are in memory at once, unless a single one is larger."""
BATCH_ROWS = 1024
NUMBER = "__row__"
"""Name of the column of row numbers while a condition is applied."""


@contextlib.contextmanager
def one_line(path: Path, kind: str = "Parquet") -> Iterator[None]:
    """Turn what pyarrow raises over a damaged file into SourceError."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path}: not a readable {kind} file: {message}") from None


def open_parquet(file: BinaryIO, path: Path) -> pq.ParquetFile:
    """A Parquet file whose text and binary columns come with their dictionaries.

    Looks at no column chunk: pyarrow ends the process over some that are damaged, rather than raising an error.

    Raises SourceError for too many columns, or a row group that is stored so small that it must be a trap.
    """
    metadata = pq.read_metadata(file)
    if metadata.num_columns > MAX_FIELDS:
        raise SourceError(f"{path}: {metadata.num_columns:,} columns, more than {MAX_FIELDS:,}")
    size = file.seek(0, os.SEEK_END)  # of a file at the Hub as well, which has no descriptor
    for group in range(metadata.num_row_groups):
        if metadata.row_group(group).total_byte_size > FREE_EXPANSION + MAX_RATIO * size:
            raise SourceError(f"{path}: row group {group} becomes more than {MAX_RATIO} times as large as the file")
    leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
    texts = sorted({leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"})
    return pq.ParquetFile(file, metadata=metadata, read_dictionary=texts, buffer_size=1 << 20)


def parquet_records(
    path: Path,
    gate: Gate,
    columns: Sequence[str] | None,
    condition: Node | None = None,
    groups: Container[int] | None = None,
) -> Iterator[Record | Skipped]:
    """The rows of a Parquet file, in order; see `tables.table_records`.

    With `condition`, rows for which it does not hold are counted instead. `groups`: the row groups that can hold any
    for which it does (`row_groups.matching_groups`); the others are counted without being read.
    """
    key = gate.relative(path)
    with gate.open_data(path) as file, one_line(path):
        table = open_parquet(file, path)
        names = table.schema_arrow.names
        wanted = None
        if columns is not None:
            asked = [*columns, *(condition.columns() if condition else ())]
            require_columns(names, asked, str(path))
            wanted = list(dict.fromkeys(c if c in names else c.split(".")[0] for c in asked if c != "__key__"))
        elif condition is not None:
            require_columns(names, condition.columns(), str(path))
        labels = class_labels(table.schema_arrow)
        first = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if groups is None or group in groups:
                for item in _group(table, group, wanted, first, condition, path):
                    if isinstance(item, Skipped):
                        yield item
                        continue
                    number, data = item
                    where = f"{path} row {number}"
                    if isinstance(data, RowError):
                        yield Record(where, f"{key}:{number}", {}, key, number, data)
                    else:
                        for column in labels.keys() & data.keys():
                            data[column] = class_name(labels[column], data[column])
                        yield Record(where, f"{key}:{number}", data, key, number)
            elif rows:
                yield Skipped(Skip.WHERE, rows, str(path))
            first += rows


def _group(
    table: pq.ParquetFile, group: int, wanted: list[str] | None, first: int, condition: Node | None, path: Path
) -> Iterator[tuple[int, dict[str, Any] | RowError] | Skipped]:
    info = table.metadata.row_group(group)
    size = max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, info.num_rows) // max(1, info.total_byte_size)))
    for batch in table.iter_batches(batch_size=size, row_groups=[group], columns=wanted):
        numbers = np.arange(first, first + batch.num_rows)
        first += batch.num_rows
        if condition is not None:
            numbered = pa.Table.from_batches([batch]).append_column(NUMBER, pa.array(numbers))
            kept = _filtered(numbered, condition, path)
            if kept.num_rows < batch.num_rows:
                yield Skipped(Skip.WHERE, batch.num_rows - kept.num_rows, str(path))
            numbers = kept[NUMBER].to_numpy()
            batches = kept.drop_columns([NUMBER]).to_batches()
            if not batches:
                continue
            batch = batches[0]
        yield from zip(numbers.tolist(), batch_rows(batch, numbers.tolist(), path), strict=True)


def _filtered(table: pa.Table, condition: Node, path: Path) -> pa.Table:
    try:
        return table.filter(condition.expression()).combine_chunks()
    except pa.ArrowException as error:
        raise SourceError(f"{path}: where does not fit the columns: {str(error).splitlines()[0]}") from None


def batch_rows(batch: pa.RecordBatch, numbers: list[int], path: Path) -> Iterator[dict[str, Any] | RowError]:
    """The rows of a batch, made all at once if they are small together, else one by one. One over a cap is an error."""
    text, binary = np.sum([sizes(column) for column in batch.columns], axis=0).tolist() if batch.columns else (0, 0)
    if text <= MAX_ROW and binary <= BATCH_BYTES:
        yield from batch.to_pylist()
        return
    for index, number in enumerate(numbers):
        row = batch.slice(index, 1)
        text, binary = np.sum([sizes(column) for column in row.columns], axis=0).tolist()
        if text > MAX_ROW:
            yield RowError(f"{path} row {number}: more than {MAX_ROW:,} bytes of text", Outcome.ROW_TOO_LARGE)
        elif text + binary > MAX_CELLS:
            yield RowError(f"{path} row {number}: more than {MAX_CELLS:,} bytes", Outcome.ROW_TOO_LARGE)
        else:
            yield row.to_pylist()[0]


def sizes(array: pa.Array) -> tuple[int, int]:
    """Bytes of text (and numbers) and of binary values in an array, once each dictionary is written out."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary) if _has_length(kind.value_type) else None
        size = 8 * len(array) if lengths is None else pc.sum(pc.take(lengths, array.indices)).as_py() or 0
        return (0, size) if _is_binary(kind.value_type) else (size, 0)
    if pa.types.is_struct(kind):
        parts = [sizes(child) for child in array.flatten()]
        return sum(text for text, _ in parts), sum(binary for _, binary in parts)
    if pa.types.is_map(kind):
        array = pa.concat_arrays([array])  # without the rows outside of a slice
        parts = [sizes(array.keys), sizes(array.items)]
        return parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        text, binary = sizes(array.flatten())
        return text + 8 * len(array), binary
    if _has_length(kind):
        size = pc.sum(pc.binary_length(array)).as_py() or 0
        return (0, size) if _is_binary(kind) else (size, 0)
    return 8 * len(array), 0


def _has_length(kind: pa.DataType) -> bool:
    return _is_binary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """Columns of class numbers to the names of the classes, as `datasets` writes them into the schema's metadata."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if isinstance(names, list)}


def class_name(names: list[str], value: Any) -> Any:
    """The name of a class; None for -1, which marks rows without a label, and for a number without a name."""
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
