"""Train shards of a snapshot: memory-mapped, opened when first needed, columns read in place.

A `Pool` is the endless stream's view of some shards: one long table of rows. What planning needs of every row (length
and uid) is copied per shard, 16 bytes a row; tokens, codes and pixels are views into the mapped file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from janus.data.blocks import Stream, stream
from janus.data.config import DataOrder
from janus.data.hold_out import Split
from janus.data.order import key64
from schemas.layers import TRAIN, check_layer
from schemas.manifest import Fingerprints, Snapshot, SnapshotShard
from schemas.sample import UID_BYTES
from storage.places import Place, as_store, open_fetched
from storage.store import Store, content_key
from storage.verified import Verified

PLANNED = ("uid", "length", "short_length")
"""Columns that planning needs."""
OPEN_SHARDS = 512
"""Shards kept mapped at a time (each holds a file descriptor; a common limit is 1,024)."""
INDEXED_SHARDS = 4096
"""Shards whose lengths and uids are kept: 32 KiB each at 2,048 rows."""
CENSUS_SHARDS = 1024
"""Shards whose lengths are read to know the length distribution; more are sampled evenly."""


@dataclass(frozen=True)
class Row:
    """One training row, copied out of the mapped shard: a file that is cut while a step is prepared cannot end the run
    with a signal that names nothing.
    """

    path: Path
    number: int
    """In the shard."""
    uid: bytes
    input_ids: npt.NDArray[np.int32]
    loss_mask: npt.NDArray[np.bool_]
    short_ids: npt.NDArray[np.int32] | None
    codes: npt.NDArray[np.uint16]
    pixels: list[npt.NDArray[np.uint8]]
    """Bytes of each understanding image: JPEG, or raw H*W*3."""

    def damaged(self, problem: str) -> ValueError:
        """The error to raise for a row that cannot be trained on."""
        return ValueError(
            f"{self.path}: row {self.number} (uid {self.uid.hex()}): damaged row: {problem}; build this shard again"
        )


@dataclass(frozen=True)
class RowIndex:
    """What planning needs of a shard's rows."""

    length: npt.NDArray[np.int32]
    short_length: npt.NDArray[np.int32]
    identity: npt.NDArray[np.uint64]
    """First 8 bytes of the uid, little-endian: a hash already, so it seeds the row's randomness."""


class Shard:
    """One memory-mapped train shard.

    Opening it reads what planning needs of its rows, `index`. The other columns come one record batch at a time, when a
    row is asked for: a step of a large, shuffled corpus takes one row from each of many shards.

    Raises ValueError or FileNotFoundError with one line unless the file is as promised.
    """

    def __init__(self, path: Path, rows: int, *, watched: bool = True) -> None:
        """Args: the file; rows it should have; whether to look if it is still the same file when a row is read."""
        self.path = path
        with self._readable():
            self._written = _identity(path) if watched else None
        with self._readable():
            file = pa.memory_map(str(path))
            self._reader = pa.ipc.open_file(file)
        check_layer(self._reader.schema, "train", str(path))
        with self._readable():
            planned = [TRAIN.get_field_index(name) for name in PLANNED]
            table = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=planned)).read_all()
            table.validate(full=True)
        if table.num_rows != rows:
            raise ValueError(f"{path}: {table.num_rows} rows where the snapshot says {rows}; restore it or build again")
        uid = _joined(table.column("uid"), f"V{UID_BYTES}")
        self.index = RowIndex(
            length=_joined(table.column("length"), np.int32),
            short_length=_joined(table.column("short_length"), np.int32),
            identity=uid.view("<u8")[::2].astype(np.uint64),
        )
        """Lengths and identities of all rows, copied."""
        self._starts = list(accumulate(map(len, table.column("length").chunks), initial=0))
        self._batches: dict[int, _Batch] = {}

    def row(self, number: int) -> Row:
        """Row `number` of the shard.

        Raises ValueError or FileNotFoundError with one line if its record batch is damaged, or the file is not the one
        that was opened any more.
        """
        self._check_unchanged()
        place = bisect_right(self._starts, number) - 1
        if place not in self._batches:
            with self._readable():
                record = self._reader.get_batch(place)
                record.validate(full=True)  # offsets of a damaged file must not lead outside the mapping
            self._batches[place] = _Batch(record)
        batch, place = self._batches[place], number - self._starts[place]
        short_ids = batch.short_ids.get(place)
        return Row(
            path=self.path,
            number=number,
            uid=batch.uid[place].tobytes(),
            input_ids=batch.input_ids.get(place),
            loss_mask=batch.loss_mask.get(place),
            short_ids=short_ids if len(short_ids) else None,
            codes=batch.codes.get(place),
            pixels=batch.pixels.get(place),
        )

    def _check_unchanged(self) -> None:
        """Reading what was cut off a mapped file ends the process with SIGBUS."""
        if self._written is None:
            return
        with self._readable():
            now = _identity(self.path)
        if now != self._written:
            raise ValueError(
                f"{self.path}: cut or replaced while training ({now[0]} bytes, {self._written[0]} when it was opened); "
                "restore it, and the same command continues"
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """One line that names the file for whatever Arrow finds wrong with it."""
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path}: missing, but the snapshot names it; restore it or build again"
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{self.path}: not a readable Arrow file ({error}); restore it or build again") from None


def _identity(path: Path) -> tuple[int, int, int]:
    """Size, time of change and inode."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


class _Batch:
    """The columns of one record batch as NumPy views.

    Made from Arrow's buffers by hand: pyarrow's own `to_numpy` imports pandas (0.5 s), and its per-row scalars cost
    more than all else the loader does with a row of text.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.uid = _values(batch.column("uid"), f"V{UID_BYTES}").copy()
        self.input_ids = _Lists(batch.column("input_ids"), np.int32)
        self.short_ids = _Lists(batch.column("short_ids"), np.int32)
        self.codes = _Lists(batch.column("codes"), np.uint16)
        self.loss_mask = _BitLists(batch.column("loss_mask"))
        self.pixels = _ByteLists(batch.column("pixels"))


class _Lists:
    """A column of lists of numbers. A null reads as an empty list."""

    def __init__(self, array: pa.ListArray, dtype: npt.DTypeLike) -> None:
        _, offsets, _, values = array.buffers()
        self._offsets, self._values = _view(offsets, np.int32).copy(), _view(values, dtype)

    def get(self, row: int) -> npt.NDArray:
        return self._values[self._offsets[row] : self._offsets[row + 1]].copy()


class _BitLists(_Lists):
    """A column of lists of booleans, stored as bits."""

    def __init__(self, array: pa.ListArray) -> None:
        super().__init__(array, np.uint8)

    def get(self, row: int) -> npt.NDArray[np.bool_]:
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        first = start // 8
        bits = np.unpackbits(self._values[first : (stop + 7) // 8], count=stop - 8 * first, bitorder="little")
        return bits[start - 8 * first :].view(np.bool_)


class _ByteLists:
    """A column of lists of byte strings. A null reads as an empty list."""

    def __init__(self, array: pa.ListArray) -> None:
        _, offsets, _, inner, values = array.buffers()
        self._offsets, self._inner, self._values = (
            _view(offsets, np.int32).copy(),
            _view(inner, np.int32).copy(),
            _view(values, np.uint8),
        )

    def get(self, row: int) -> list[npt.NDArray[np.uint8]]:
        bounds = self._inner[self._offsets[row] : self._offsets[row + 1] + 1].tolist()
        return [self._values[start:stop].copy() for start, stop in pairwise(bounds)]


def _joined(column: pa.ChunkedArray, dtype: npt.DTypeLike) -> npt.NDArray:
    """A column of all record batches, copied: a view would keep the file open."""
    return _values(column.combine_chunks(), dtype).copy()


def _values(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray:
    """A column of fixed-size values without nulls."""
    return _view(array.buffers()[1], dtype)[: len(array)]


def _view(buffer: pa.Buffer | None, dtype: npt.DTypeLike) -> npt.NDArray:
    return np.empty(0, dtype) if buffer is None or buffer.size == 0 else np.frombuffer(buffer, dtype)


@dataclass(frozen=True)
class PoolShard:
    """A shard of a pool."""

    corpus: Store
    """Where it lies."""
    file: SnapshotShard
    source: str
    """Name of its source in the pool."""
    rows: int
    """Of them, in the pool."""


def pool_shards(corpus: Place, shards: Iterable[SnapshotShard], suffix: str = "") -> list[PoolShard]:
    """The shards of a corpus as a pool takes them; `suffix` is added to the names of their sources."""
    store = as_store(corpus)
    return [PoolShard(store, shard, shard.source + suffix, shard.rows) for shard in shards if shard.rows]


class Pool:
    """The rows of some shards as one table, in their order."""

    def __init__(
        self, name: str, shards: Sequence[PoolShard], verified: Verified | None = None, split: Split | None = None
    ) -> None:
        """Args: what knows which shards are sound, if they are to be held against their hashes; which rows are in the
        pool (all by default), for which every shard's uids are read now.
        """
        self.name = name
        self._verified = verified
        filled = list(shards)

        # Not methods: a cache that holds `self` is a cycle, and trainers switch the cycle collector off.
        @lru_cache(OPEN_SHARDS)
        def open_shard(number: int) -> Shard:
            shard = filled[number]
            store, file = shard.corpus, shard.file
            # A file of the local cache may be evicted while it is mapped, which harms nothing.
            opened = partial(Shard, rows=file.rows, watched=store.folder is not None)
            return open_fetched(store, file.path, file.sha256, file.bytes, opened)

        @lru_cache(INDEXED_SHARDS)
        def index_shard(number: int) -> RowIndex:
            return open_shard(number).index

        self._open, self._index = open_shard, index_shard
        self._kept: list[npt.NDArray[np.int32]] | None = None
        """Of each shard, the numbers of its rows that are in the pool; None for all."""
        if split is not None:
            self._kept = [
                np.flatnonzero(split(index_shard(one).identity)).astype(np.int32) for one in range(len(filled))
            ]
            filled[:] = [replace(shard, rows=len(kept)) for shard, kept in zip(filled, self._kept, strict=True)]
        self._shards = filled
        self._starts = np.cumsum([0, *(shard.rows for shard in filled)])

        self.sources: dict[str, int] = {}
        """Rows of each source, in the order of the shards; none without rows."""
        for shard in filled:
            if shard.rows:
                self.sources[shard.source] = self.sources.get(shard.source, 0) + shard.rows

    def __len__(self) -> int:
        return int(self._starts[-1])

    def stream(self, order: DataOrder) -> Stream:
        """The pool's endless stream: every row once per epoch, shuffled; each source spread evenly over the blocks."""
        shards = [shard for shard in self._shards if shard.rows]
        return stream(shards, order, key64("order", order.seed, self.name))

    def stream_of(self, source: str, order: DataOrder) -> Stream:
        """The endless stream of one source's rows, numbered within the source."""
        shards = [shard for shard in self._shards if shard.source == source and shard.rows]
        return stream(shards, order, key64("order", order.seed, self.name, source))

    def shares(self) -> dict[str, float]:
        """Share of each source of the pool's stream: that of its rows."""
        return {source: rows / len(self) for source, rows in self.sources.items()}

    def source_of(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Source of each row."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        return [self._shards[shard].source for shard in shards.tolist()]

    def unverified_bytes(self) -> int:
        """Bytes of the shards that will be hashed when they are first used."""
        if self._verified is None:
            return 0
        # What comes from elsewhere is hashed as it comes.
        here = [shard for shard in self._shards if shard.corpus.folder is not None]
        return sum(one.file.bytes for one in here if not self._verified.is_known(_local(one), one.file.sha256))

    def row(self, number: int) -> Row:
        """Row `number` of the pool. Its shard must have been prepared."""
        shard, place = self._locate(number)
        return self._open(shard).row(self._in_file(shard, place))

    def look_up(self, rows: npt.NDArray[np.int64]) -> RowIndex:
        """Lengths and identities of `rows`, in their order."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        places = rows - self._starts[shards]
        length, short_length = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
        identity = np.empty(len(rows), np.uint64)
        by_shard = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[by_shard], return_index=True)
        for number, members in zip(numbers, np.split(by_shard, firsts[1:]), strict=True):
            index = self._index(int(number))
            here = places[members] if self._kept is None else self._kept[number][places[members]]
            length[members] = index.length[here]
            short_length[members] = index.short_length[here]
            identity[members] = index.identity[here]
        return RowIndex(length, short_length, identity)

    def census(self) -> npt.NDArray[np.int64]:
        """Numbers of the rows of up to CENSUS_SHARDS shards, evenly spread: in most corpora, of all rows."""
        count = min(len(self._shards), CENSUS_SHARDS)
        chosen = [number * len(self._shards) // count for number in range(count)]
        return np.concatenate([np.arange(self._starts[shard], self._starts[shard + 1]) for shard in chosen])

    def where(self, number: int) -> str:
        """Shard and row number of a row of the pool, for error messages."""
        shard, place = self._locate(number)
        found = self._shards[shard]
        return f"{found.corpus.url}/{found.file.path}: row {self._in_file(shard, place)}"

    def shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Numbers of the shards that hold `rows`."""
        return np.unique(np.searchsorted(self._starts, rows, side="right") - 1).tolist()

    def prepare(self, number: int) -> None:
        """Bring a shard into the local cache, if the corpus lies in an object store; otherwise hold it against its hash
        in the snapshot, if it is not known to be sound.

        Raises ValueError or FileNotFoundError with one line that names the shard.
        """
        shard = self._shards[number]
        path = _local(shard)
        # What comes from an object store is held against its hash as it arrives.
        if self._verified is not None and shard.corpus.folder is not None:
            self._verified.check(path, shard.file.sha256)

    def _locate(self, number: int) -> tuple[int, int]:
        """Shard, and row of the shard, of a row of the pool."""
        shard = int(self._starts.searchsorted(number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def _in_file(self, shard: int, place: int) -> int:
        """Number, in its file, of a row of the pool's part of a shard."""
        return place if self._kept is None else int(self._kept[shard][place])


def _local(shard: PoolShard) -> Path:
    file = shard.file
    try:
        return shard.corpus.fetch(file.path, file.sha256, file.bytes)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{shard.corpus.url}/{file.path}: missing, but the snapshot names it; restore it or build again"
        ) from None


def check_files(corpus: Place, snapshot: Snapshot) -> None:
    """Check that every shard of the snapshot is there and has its size. `Pool.prepare` looks at the content.

    In an object store that takes one listing; what comes from there is compared with its SHA-256 in any case.

    Raises FileNotFoundError or ValueError naming the shard.
    """
    store = as_store(corpus)
    listed = {} if store.folder is not None else {entry.key: entry.size for entry in store.list("train")}
    for shard in snapshot.shards:
        path = f"{store.url}/{shard.path}"
        if store.folder is None:
            size = listed.get(content_key(shard.path, shard.sha256), listed.get(shard.path))
        else:
            size = store.content_size(shard.path, shard.sha256)
        if size is None:
            raise FileNotFoundError(f"{path}: shard of snapshot {snapshot.name} is missing; restore it or build again")
        if size != shard.bytes:
            raise ValueError(
                f"{path}: {size} bytes where snapshot {snapshot.name} says {shard.bytes}; restore it or build again"
            )


def check_fingerprints(snapshot: Snapshot, model: Fingerprints) -> None:
    """Refuse to train `model` on shards that were made for another one (design D6).

    How pixels are stored is the shards' own affair and not compared. Raises ValueError naming the first difference.
    """
    for field in Fingerprints.model_fields:
        made_with, found = getattr(snapshot.fingerprints, field), getattr(model, field)
        if field != "pixels" and made_with != found:
            raise ValueError(
                f"snapshot {snapshot.name} of corpus {snapshot.corpus!r} was built for another model: {field} is "
                f"{_short(made_with)} there, {_short(found)} in the model; build the corpus with this model"
            )


def check_stage(snapshot: Snapshot, stage: int) -> str | None:
    """Compare the stage a corpus was built for with the one it shall train.

    Stage 3 is another kind of corpus: its labels are the answers only. So it and the others do not stand in for each
    other: ValueError. Stages 1 and 2 differ in the sources alone: a line to show.
    """
    if snapshot.stage == stage:
        return None
    difference = f"snapshot {snapshot.name} of corpus {snapshot.corpus!r} was built for stage {snapshot.stage}"
    if 3 in (snapshot.stage, stage):
        raise ValueError(
            f"{difference}, the recipe is of stage {stage}, and only in stage 3 are the labels the answers alone; "
            f"give another --data, or allow it with --data.corpus-stage {snapshot.stage}"
        )
    return f"{difference}, the recipe is of stage {stage}"


def _short(value: str | int) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 12 else str(value)
