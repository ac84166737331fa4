"""Reading local images: files, members of tars, cells of Parquet files.

A row group of Parquet can be read only from its start, and a shard's rows lie in the order of their uids, which is none
of the file's. So the cells of a shard are taken out in the file's order, one pass over each group, and laid down in a
temporary file that gives them back in any order. One image is in memory at a time, and none over the byte cap.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.reading.errors import SourceError
from pipelines.reading.refs import inside
from schemas.sample import ImageRef


class TooLarge(ValueError):
    """An image over the byte cap."""


class LocalImages:
    """Local images of one source, by their references."""

    def __init__(self, refs: Iterable[ImageRef], root: Path, folder: Path, max_bytes: int) -> None:
        """Take the Parquet cells among `refs` out of their files.

        Args:
            refs: at least those of the cells that will be read.
            root: the source's folder, which no path may leave.
            folder: an existing one for the temporary file, which has no name: nothing of it can stay behind.
            max_bytes: larger images are not loaded.

        Raises SourceError for a path that leaves `root`, or a file that is no readable Parquet file.
        """
        self._root = root
        self._max_bytes = max_bytes
        self._spool: BinaryIO | None = None
        self._places: dict[tuple[str, str, int], tuple[int, int]] = {}
        """Cell to offset and size in the temporary file."""
        rows: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for ref in refs:
            if ref.path is not None and ref.column is not None and ref.row is not None:
                rows[ref.path, ref.column].add(ref.row)
        if rows:
            self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (see close)
        for (path, column), wanted in rows.items():
            self._take_out(path, column, wanted)

    def _take_out(self, path: str, column: str, wanted: set[int]) -> None:
        assert self._spool is not None
        for row, value in _cells(inside(self._root, path, "image reference"), column, wanted):
            self._places[path, column, row] = self._spool.tell(), value.size
            if value.size <= self._max_bytes:
                self._spool.write(value)

    def read(self, ref: ImageRef) -> bytes:
        """The bytes that `ref` stands for.

        Raises FileNotFoundError if the file (or the row in it) is gone, TooLarge, or SourceError if its path would
        leave the source's folder.
        """
        if ref.path is None:
            raise ValueError(f"not a local image: {ref.url}")
        if ref.column is not None and ref.row is not None:
            if (place := self._places.get((ref.path, ref.column, ref.row))) is None:
                raise FileNotFoundError(f"{ref.path}: no value in row {ref.row} of column {ref.column}")
            assert self._spool is not None
            return self._range(self._spool, *place)
        path = inside(self._root, ref.path, "image reference")
        if not os.path.isfile(path):  # also keeps pipes and devices out
            raise FileNotFoundError(f"{path}: no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if ref.size is None else ref.size
            return self._range(file, ref.offset or 0, size)

    def _range(self, file: BinaryIO, offset: int, size: int) -> bytes:
        if size > self._max_bytes:
            raise TooLarge(f"{size} bytes, more than {self._max_bytes}")
        file.seek(offset)
        return file.read(size)

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._spool is not None:
            self._spool.close()


def _cells(path: Path, column: str, wanted: set[int]) -> Iterator[tuple[int, pa.Buffer]]:
    """(row, value) of the wanted rows of a column that have a value, in order; none if file or column are gone."""
    if not os.path.isfile(path):
        return
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            if column.split(".")[0] not in file.schema_arrow.names:
                return
            first = 0
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                if not wanted.isdisjoint(range(first, end)):
                    # One row at a time: a group may hold gigabytes.
                    batches = file.iter_batches(batch_size=1, row_groups=[group], columns=[column])
                    for row, batch in enumerate(batches, start=first):
                        if row in wanted and (cell := nested(batch, column)[0]).is_valid:
                            yield row, cell.as_buffer()
                first = end
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def nested(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Column `a.b` of a batch: field b of the struct a (`datasets` stores images as image.bytes)."""
    name, *fields = column.split(".")
    array = batch.column(name)
    for field in fields:
        array = pc.struct_field(array, field)
    return array
