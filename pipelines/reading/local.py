"""Reading local images: files, members of tars, cells of Parquet files and of the Arrow files of `datasets`.

A row group of Parquet can be read only from its start, and a shard's rows lie in the order of their uids, which is none
of the file's. So the cells of a shard are taken out in the file's order, one pass over each group, and laid down in a
temporary file that gives them back in any order. One image is in memory at a time, and none over the byte cap.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of, images_gate
from pipelines.reading.parquet import one_line, open_parquet, sizes
from schemas.sample import ImageRef
from schemas.spec import Source


class TooLarge(ValueError):
    """An image over the byte cap."""


def gates_of(source: Source) -> Mapping[str | None, Gate]:
    """The gates that a source's image references name, by `ImageRef.root`. Raises SourceError if a folder is gone."""
    apart = images_gate(source)
    return {None: gate_of(source), **({"images": apart} if apart is not None else {})}


class LocalImages:
    """Local images of one source, by their references."""

    def __init__(
        self, refs: Iterable[ImageRef], gates: Mapping[str | None, Gate], folder: Path, max_bytes: int
    ) -> None:
        """Take the cells among `refs` out of their files.

        Args:
            refs: at least those of the cells that will be read.
            gates: open the files, by `ImageRef.root`.
            folder: an existing one for the temporary file, which has no name: nothing of it can stay behind.
            max_bytes: larger images are not loaded.

        Raises RowError for a path that may not be opened, SourceError for a file with cells that cannot be read.
        """
        self._gates = gates
        self._max_bytes = max_bytes
        self._spool: BinaryIO | None = None
        self._places: dict[tuple[str, str, int], tuple[int, int]] = {}
        """Cell to offset and size in the temporary file."""
        rows: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for ref in refs:
            if ref.path is not None and ref.column is not None and ref.row is not None:
                rows[ref.path][ref.row].append(ref.column)
        if rows:
            self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (see close)
        for path, wanted in rows.items():
            self._take_out(path, wanted)

    def _take_out(self, path: str, wanted: Mapping[int, list[str]]) -> None:
        assert self._spool is not None
        gate = self._gates[None]
        for row, column, value, size in _cells(gate, gate.path(path, "image reference"), wanted, self._max_bytes):
            self._places[path, column, row] = self._spool.tell(), size
            if value is not None:
                self._spool.write(value)

    def read(self, ref: ImageRef) -> bytes:
        """The bytes that `ref` stands for.

        Raises FileNotFoundError if the file (or the row in it) is gone, TooLarge, or RowError (`forbidden_path`) if its
        path leads to where nothing may be opened.
        """
        if ref.path is None:
            raise ValueError(f"not a local image: {ref.url}")
        if ref.column is not None and ref.row is not None:
            if (place := self._places.get((ref.path, ref.column, ref.row))) is None:
                raise FileNotFoundError(f"{ref.path}: no value in row {ref.row} of column {ref.column}")
            assert self._spool is not None
            return self._range(self._spool, *place)
        gate = self._gates[ref.root]
        with gate.open(gate.path(ref.path, "image reference"), "image reference") as file:
            size = file.seek(0, os.SEEK_END) if ref.size is None else ref.size
            return self._range(file, ref.offset or 0, size)

    def _range(self, file: BinaryIO, offset: int, size: int) -> bytes:
        if size > self._max_bytes:
            raise TooLarge(f"{size} bytes, more than {self._max_bytes}")
        file.seek(offset)
        return file.read(size)

    def close(self) -> None:
        """Close the temporary file, which removes it."""
        if self._spool is not None:
            self._spool.close()


def _cells(
    gate: Gate, path: Path, wanted: Mapping[int, list[str]], max_bytes: int
) -> Iterator[tuple[int, str, bytes | None, int]]:
    """(row, column, value, size) of the wanted cells that have a value, in order; none if file or column are gone.

    The value of a cell over `max_bytes` is None: it is not loaded.
    """
    try:
        file = gate.open(path, "image reference")
    except FileNotFoundError:
        return
    arrow = path.suffix == ".arrow"
    with file, one_line(path, "Arrow" if arrow else "Parquet"):
        for row, batch in (_arrow_rows if arrow else _parquet_rows)(file, path, wanted):
            for column in wanted.get(row, ()):
                if (cell := nested(batch, column)) is not None:
                    size = sum(sizes(cell))
                    yield row, column, _bytes(cell) if size <= max_bytes else None, size


def _parquet_rows(file: BinaryIO, path: Path, wanted: Mapping[int, list[str]]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number, row) of the rows of the row groups that hold a wanted one: the columns that are asked for."""
    table = open_parquet(file, path)
    asked = {column.split(".")[0] for columns in wanted.values() for column in columns}
    columns = [name for name in table.schema_arrow.names if name in asked]
    first = 0
    for group in range(table.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        if columns and not wanted.keys().isdisjoint(range(first, end)):
            # One row at a time: a group may hold gigabytes.
            yield from enumerate(table.iter_batches(batch_size=1, row_groups=[group], columns=columns), first)
        first = end


def _arrow_rows(file: BinaryIO, path: Path, wanted: Mapping[int, list[str]]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number, row) of the wanted rows of an Arrow stream."""
    first = 0
    for batch in pa.ipc.open_stream(pa.PythonFile(file, mode="r")):
        rows = sorted(row for row in wanted if first <= row < first + batch.num_rows)
        if rows:
            batch.validate(full=True)
        yield from ((row, batch.slice(row - first, 1)) for row in rows)
        first += batch.num_rows


def _bytes(cell: pa.Array) -> Any:
    """The value of an array of one."""
    return cell[0].as_py() if pa.types.is_dictionary(cell.type) else cell[0].as_buffer()


def nested(batch: pa.RecordBatch, column: str) -> pa.Array | None:
    """The value at `column` of a batch of one row, as an array of one; None where there is none.

    `image.bytes`: field bytes of the struct image. `images.2.bytes`: the same of the third element of a list.
    """
    name, *parts = column.split(".")
    if name not in batch.schema.names:
        return None
    array = batch.column(name)
    for part in parts:
        if array.null_count:
            return None
        if pa.types.is_struct(array.type):
            index = array.type.get_field_index(part)
            if index < 0:
                return None
            array = array.flatten()[index]
        elif part.isdecimal() and isinstance(array.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
            array = array.flatten().slice(int(part), 1)
            if not len(array):
                return None
        else:
            return None
    return None if array.null_count else array
