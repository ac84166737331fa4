"""Train shards of a snapshot: memory-mapped, opened when first needed, columns read in place.

A `Pool` is the endless stream's view of some shards: one long table of rows. What planning needs of every row (length
and uid) is copied per shard, 16 bytes a row; tokens, codes and pixels are views into the mapped file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.digest import file_sha256
from schemas.layers import check_layer
from schemas.manifest import Fingerprints, Snapshot, SnapshotShard

OPEN_SHARDS = 512
"""Shards kept mapped at a time (each holds a file descriptor; a common limit is 1,024)."""
INDEXED_SHARDS = 4096
"""Shards whose lengths and uids are kept: 32 KiB each at 2,048 rows."""
CENSUS_SHARDS = 1024
"""Shards whose lengths are read to know the length distribution; more are sampled evenly."""


@dataclass(frozen=True)
class Row:
    """One training row. Arrays are read-only views into the mapped shard (loss_mask is a copy: bits become bytes)."""

    where: str
    """Shard, row number and uid, for error messages."""
    uid: bytes
    input_ids: npt.NDArray[np.int32]
    loss_mask: npt.NDArray[np.bool_]
    short_ids: npt.NDArray[np.int32] | None
    codes: npt.NDArray[np.uint16]
    pixels: list[pa.Buffer]
    """Bytes of each understanding image: JPEG, or raw H*W*3."""


@dataclass(frozen=True)
class RowIndex:
    """What planning needs of a shard's rows."""

    length: npt.NDArray[np.int32]
    short_length: npt.NDArray[np.int32]
    identity: npt.NDArray[np.uint64]
    """First 8 bytes of the uid, little-endian: a hash already, so it seeds the row's randomness."""


class Shard:
    """One memory-mapped train shard. Raises ValueError or FileNotFoundError with one line unless it is as promised."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            table.validate(full=True)  # offsets of a damaged file must not lead outside the mapping
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: shard of the snapshot is missing; restore it or build again") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: not a readable Arrow file ({error}); restore it or build again") from None
        check_layer(table.schema, "train", str(path))
        if table.num_rows != rows:
            raise ValueError(f"{path}: {table.num_rows} rows where the snapshot says {rows}; restore it or build again")
        self._columns = {name: table.column(name).chunks for name in table.column_names}
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._columns["uid"])])

    def index(self) -> RowIndex:
        """Lengths and identities of all rows, copied."""
        uids = b"".join(_fixed_bytes(chunk) for chunk in self._columns["uid"])
        return RowIndex(
            length=np.concatenate([chunk.to_numpy() for chunk in self._columns["length"]]),
            short_length=np.concatenate([chunk.to_numpy() for chunk in self._columns["short_length"]]),
            identity=np.frombuffer(uids, dtype="<u8")[::2].astype(np.uint64),
        )

    def row(self, number: int) -> Row:
        """Row `number` of the shard."""
        batch = int(np.searchsorted(self._starts, number, side="right")) - 1
        place = number - int(self._starts[batch])
        column = {name: chunks[batch] for name, chunks in self._columns.items()}
        uid = column["uid"][place].as_py()
        short = column["short_ids"][place]
        return Row(
            where=f"{self.path}: row {number} (uid {uid.hex()})",
            uid=uid,
            input_ids=_values(column["input_ids"][place]),
            loss_mask=column["loss_mask"][place].values.to_numpy(zero_copy_only=False),
            short_ids=_values(short) if short.is_valid else None,
            codes=_values(column["codes"][place]),
            pixels=[image.as_buffer() for image in column["pixels"][place].values or ()],
        )


def _values(scalar: pa.ListScalar) -> npt.NDArray:
    return scalar.values.to_numpy() if scalar.is_valid else np.empty(0, np.uint16)


def _fixed_bytes(array: pa.FixedSizeBinaryArray) -> memoryview:
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


class Pool:
    """The rows of some shards as one table, in snapshot order."""

    def __init__(self, name: str, corpus: Path, shards: Sequence[SnapshotShard]) -> None:
        self.name = name
        self._corpus = corpus
        self._shards = [shard for shard in shards if shard.rows]
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self._open = lru_cache(OPEN_SHARDS)(self._open_shard)
        self._index = lru_cache(INDEXED_SHARDS)(self._index_shard)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, number: int) -> Row:
        """Row `number` of the pool."""
        shard, place = self._locate(np.asarray([number]))
        return self._open(int(shard[0])).row(int(place[0]))

    def look_up(self, rows: npt.NDArray[np.int64]) -> RowIndex:
        """Lengths and identities of `rows`, in their order."""
        shards, places = self._locate(rows)
        length, short_length = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
        identity = np.empty(len(rows), np.uint64)
        by_shard = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[by_shard], return_index=True)
        for number, members in zip(numbers, np.split(by_shard, firsts[1:]), strict=True):
            index = self._index(int(number))
            length[members] = index.length[places[members]]
            short_length[members] = index.short_length[places[members]]
            identity[members] = index.identity[places[members]]
        return RowIndex(length, short_length, identity)

    def census(self) -> npt.NDArray[np.int64]:
        """Numbers of the rows of up to CENSUS_SHARDS shards, evenly spread: in most corpora, of all rows."""
        count = min(len(self._shards), CENSUS_SHARDS)
        chosen = [number * len(self._shards) // count for number in range(count)]
        return np.concatenate([np.arange(self._starts[shard], self._starts[shard + 1]) for shard in chosen])

    def where(self, number: int) -> str:
        """Shard and row number of a row of the pool, for error messages."""
        shard, place = self._locate(np.asarray([number]))
        return f"{self._corpus / self._shards[int(shard[0])].path}: row {int(place[0])}"

    def _locate(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        return shards, rows - self._starts[shards]

    def _open_shard(self, number: int) -> Shard:
        return Shard(self._corpus / self._shards[number].path, self._shards[number].rows)

    def _index_shard(self, number: int) -> RowIndex:
        return self._open(number).index()


def check_files(corpus: Path, snapshot: Snapshot, *, verify: bool = False) -> None:
    """Check that every shard of the snapshot is there and whole: by size, and with `verify` by its SHA-256.

    Raises FileNotFoundError or ValueError naming the shard.
    """
    for shard in snapshot.shards:
        path = corpus / shard.path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: shard of snapshot {snapshot.name} is missing; restore it or build again")
        if path.stat().st_size != shard.bytes:
            raise ValueError(
                f"{path}: {path.stat().st_size} bytes where snapshot {snapshot.name} says {shard.bytes}; "
                "restore it or build again"
            )
        if verify and file_sha256(path) != shard.sha256:
            raise ValueError(f"{path}: content differs from snapshot {snapshot.name}; restore it or build again")


def check_fingerprints(snapshot: Snapshot, model: Fingerprints) -> None:
    """Refuse to train `model` on shards that were made for another one (DESIGN D6).

    How pixels are stored is the shards' own affair and not compared. Raises ValueError naming the first difference.
    """
    for field in Fingerprints.model_fields:
        made_with, found = getattr(snapshot.fingerprints, field), getattr(model, field)
        if field != "pixels" and made_with != found:
            raise ValueError(
                f"snapshot {snapshot.name} of corpus {snapshot.corpus!r} was built for another model: {field} is "
                f"{_short(made_with)} there, {_short(found)} in the model; build the corpus with this model"
            )


def _short(value: str | int) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 12 else str(value)
