"""Shard files: how one is written so that it is whole or absent, and how one is read without trusting it.

Uncompressed Arrow IPC with small record batches: memory-mapped random reads touch only the rows they need (measured
against Parquet and compressed batches in docs/corpus-format.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.digest import file_sha256
from schemas.layers import check_layer, layer_of
from schemas.manifest import ShardManifest
from storage.places import Place, as_store, open_fetched
from storage.store import StorageError

BATCH_ROWS = {"raw": 64, "train": 64}
"""Rows per record batch of layers whose rows hold pixels: few, so that a shuffled read maps little."""
SMALL_BATCH_ROWS = 2048
"""Rows per record batch of the other layers."""
BATCH_BYTES = 64 << 20
"""Original images in a record batch: one that holds so much is cut before its rows are full. Both writer and readers
hold a batch."""


class ShardError(ValueError):
    """A shard that is missing or damaged, in one line that names the file and says what to do."""


@dataclass(frozen=True)
class Written:
    """What a finished shard file holds."""

    rows: int
    bytes: int
    sha256: str


def batch_rows(schema: pa.Schema) -> int:
    """Rows per record batch of a shard with this schema."""
    return BATCH_ROWS.get(layer_of(schema)[0], SMALL_BATCH_ROWS)


class ShardWriter:
    """Writes one shard, row by row, in constant memory.

    Record batches are cut by the rows' number and size, so the bytes depend on the rows alone and not on how they were
    handed in. Use as a context manager; `written` is set, and the file in place, only if the block ended without
    exception.
    """

    def __init__(self, corpus: Place, path: str, schema: pa.Schema) -> None:
        self._schema = schema
        self._batch_rows = batch_rows(schema)
        self._corpus, self._path = as_store(corpus), path
        self._pending: list[Mapping[str, Any]] = []
        self._pending_bytes = 0
        self._rows = 0
        self._stack = contextlib.ExitStack()
        self.written: Written | None = None

    def __enter__(self) -> ShardWriter:
        self._stack.__enter__()
        self._sink = self._stack.enter_context(self._corpus.writing_content(self._path))
        options = pa.ipc.IpcWriteOptions(compression=None)
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), self._schema, options=options)
        return self

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row: a mapping from columns to Python values; a column that is not in it is null."""
        self._pending.append(row)
        self._pending_bytes += sum(len(image.get("bytes") or b"") for image in row.get("images", ()))
        if len(self._pending) == self._batch_rows or self._pending_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._pending, schema=self._schema))
            self._rows += len(self._pending)
            self._pending = []
            self._pending_bytes = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            self._flush()
            self._writer.close()
        self.written = Written(self._rows, self._sink.bytes, self._sink.sha256)


def write_table(corpus: Place, path: str, schema: pa.Schema, table: pa.Table) -> Written:
    """Write the whole shard `path` from a table that already has the columns of `schema`."""
    with (
        as_store(corpus).writing_content(path) as sink,
        pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer,
    ):
        writer.write_table(table.cast(schema).combine_chunks(), max_chunksize=batch_rows(schema))
    return Written(table.num_rows, sink.bytes, sink.sha256)


@dataclass(frozen=True)
class ShardReader:
    """A verified, memory-mapped shard."""

    file: pa.ipc.RecordBatchFileReader
    rows: int

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """The whole shard, or some of its columns. Memory-mapped: nothing is copied."""
        table = self.file.read_all()
        return table if columns is None else table.select(columns)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Record batches in row order, whole or some of their columns. Other columns are not read from disk."""
        for index in range(self.file.num_record_batches):
            batch = self.file.get_batch(index)
            yield batch if columns is None else batch.select(columns)


def open_shard(corpus: Place, path: str, manifest: ShardManifest) -> ShardReader:
    """Open the shard `path` (relative to `corpus`) after comparing its bytes with its manifest.

    Raises ShardError: a flipped bit or a cut file must end here and not in a training run. Hashing costs far less
    than any step that follows (about 1.5 GB/s per core); what came into the local cache was hashed there.
    """
    store = as_store(corpus)
    remedy = "delete it and build again, or run python -m pipelines.verify"

    def checked(file: Path) -> pa.ipc.RecordBatchFileReader:
        if store.folder is not None:
            size = file.stat().st_size
            if size != manifest.bytes:
                raise ShardError(
                    f"{path}: {size} bytes where the manifest says {manifest.bytes} (truncated?); {remedy}"
                )
            if file_sha256(file) != manifest.sha256:
                raise ShardError(f"{path}: content differs from its manifest's sha256 (flipped bit?); {remedy}")
        mapped = pa.memory_map(str(file))
        try:
            return pa.ipc.open_file(mapped)
        except (pa.ArrowException, OSError) as error:  # pyarrow raises several, in its own words
            raise ShardError(f"{path}: not an Arrow file ({str(error).splitlines()[0]}); {remedy}") from None

    try:
        reader = open_fetched(store, path, manifest.sha256, manifest.bytes, checked)
    except FileNotFoundError:
        raise ShardError(f"{path}: missing although its manifest exists; {remedy}") from None
    except (ShardError, StorageError):
        raise
    except ValueError as error:
        raise ShardError(f"{error}; {remedy}") from None
    try:
        check_layer(reader.schema, manifest.layer, path)
    except ValueError as error:
        raise ShardError(str(error)) from None
    return ShardReader(reader, manifest.rows)


def uid_array(column: pa.ChunkedArray) -> np.ndarray:
    """A uid column as bytes16[N]. Compares as the bytes do: at one fixed width numpy's zero padding is harmless."""
    if not len(column):
        return np.empty(0, dtype="S16")
    array = column.combine_chunks()
    return np.frombuffer(array.buffers()[1], dtype="S16", offset=16 * array.offset, count=len(array))
