"""Block order: a shuffle that opens few shards at a time, still a closed form (design D8, D16).

Of a pool too large for memory, a row-by-row shuffle touches another shard with nearly every document. Here an epoch is
a permutation of the pool's shards, cut into blocks of so many shards; the rows of a block are shuffled among
themselves. So a stretch of the stream needs the shards of one or two blocks, and each shard once per epoch.

The sources of a pool are spread evenly: any block holds of each source its share of the shards, give or take one.

    epoch → order of the shards → blocks → (block, position) → shard, row

Everything follows from (key, epoch). An epoch costs a permutation of the shards when it is first asked for (half a
million in a tenth of a second); a row costs a few look-ups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import numpy as np

from janus.data.config import DataOrder
from janus.data.order import I64, key64, mix64, permute, shuffled

Stream = Callable[[I64], tuple[I64, I64]]
"""Row and epoch of each index of an endless stream of rows: int64[N] to int64[N] both."""


class ShardRows(Protocol):
    """What an order asks of a shard."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def source(self) -> str:
        """Name of its source."""


EPOCHS_KEPT = 2
"""Orders of epochs kept in memory (24 bytes a shard each): a window may lie on both sides of an epoch's end."""


@dataclass(frozen=True)
class _Epoch:
    """The order of one epoch."""

    shards: I64
    """int64[S]: shard at each place."""
    starts: I64
    """int64[S + 1]: position in the epoch at which each place's rows begin."""
    block_starts: I64
    """int64[B + 1]: the same for blocks."""
    key: int


class BlockOrder:
    """Rows and epochs of an endless stream over the rows of some shards, shuffled by blocks.

    Every row comes exactly once in each run of len(self) indices that starts at a multiple of len(self).

    Args:
        rows: int64[S], rows of each shard, at least 1; rows of the pool are numbered shard after shard.
        sources: one per shard: what is to be spread evenly.
        block_shards: shards of a block.
        key: of the permutations.
    """

    def __init__(self, rows: Sequence[int] | I64, sources: Sequence[str], block_shards: int, key: int) -> None:
        counts = np.asarray(rows, dtype=np.int64)
        assert len(counts), "a pool has shards"
        assert (counts > 0).all(), "and none of them is empty"
        assert block_shards >= 1
        self._first_row = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        self._block_shards = block_shards
        # Not a method: a cache that holds `self` is a cycle, and trainers switch the cycle collector off.
        self._epoch = lru_cache(EPOCHS_KEPT)(_orders(counts, sources, block_shards, key))

    def __len__(self) -> int:
        return int(self._first_row[-1])

    def rows(self, index: I64) -> tuple[I64, I64]:
        """Row and epoch of each index: int64[N] both."""
        epoch, position = index // len(self), index % len(self)
        row = np.empty_like(position)
        for number in np.unique(epoch).tolist():
            here = epoch == number
            row[here] = self._in_epoch(self._epoch(number), position[here])
        return row, epoch

    def shards(self, index: I64) -> I64:
        """Shards of the blocks that hold the indices, in the order of the stream: what to fetch ahead."""
        epoch, position = index // len(self), index % len(self)
        found: list[int] = []
        for number in np.unique(epoch).tolist():
            order = self._epoch(number)
            blocks = np.unique(np.searchsorted(order.block_starts, position[epoch == number], side="right") - 1)
            for block in blocks.tolist():
                found += order.shards[block * self._block_shards : (block + 1) * self._block_shards].tolist()
        return np.asarray(list(dict.fromkeys(found)), dtype=np.int64)

    def _in_epoch(self, order: _Epoch, position: I64) -> I64:
        block = np.searchsorted(order.block_starts, position, side="right") - 1
        row = np.empty_like(position)
        for number in np.unique(block).tolist():
            here = block == number
            start, stop = int(order.block_starts[number]), int(order.block_starts[number + 1])
            key = mix64(np.asarray([number], np.uint64) + np.uint64(order.key))
            place = start + permute(position[here] - start, stop - start, key)
            shard = np.searchsorted(order.starts, place, side="right") - 1
            row[here] = self._first_row[order.shards[shard]] + place - order.starts[shard]
        return row


def _orders(rows: I64, sources: Sequence[str], block_shards: int, key: int) -> Callable[[int], _Epoch]:
    """The function from an epoch's number to its order."""
    names, source = np.unique(np.asarray(sources, dtype=str), return_inverse=True)
    members = {str(name): np.flatnonzero(source == number) for number, name in enumerate(names)}

    def order(epoch: int) -> _Epoch:
        shards, wanted = [], []
        for name, here in members.items():
            source_key = key64("shards", key, epoch, name)
            shards.append(here[permute(np.arange(len(here)), len(here), np.asarray([source_key], np.uint64))])
            # The j-th of a source's n shards wants to stand at (j + offset) / n of the epoch; 0 <= offset < 1, exact.
            wanted.append((np.arange(len(here)) + (source_key >> 11) * 2.0**-53) / len(here))
        ordered = np.concatenate(shards)[np.argsort(np.concatenate(wanted), kind="stable")]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows[ordered])])
        ends = np.arange(0, len(ordered) + block_shards, block_shards).clip(max=len(ordered))
        return _Epoch(ordered, starts, starts[ends], key64("rows", key, epoch))

    return order


def stream(shards: Sequence[ShardRows], order: DataOrder, key: int) -> Stream:
    """The endless stream over the rows of `shards`, numbered shard after shard, in the order that `order` asks for."""
    if order.shuffle == "block":
        rows, sources = zip(*((shard.rows, shard.source) for shard in shards), strict=True)
        return BlockOrder(rows, sources, order.block_shards, key).rows
    return partial(shuffled, size=sum(shard.rows for shard in shards), key=key)
