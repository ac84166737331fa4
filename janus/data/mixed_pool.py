"""A pool whose sources do not simply come as often as they have rows: by weights, caps, or replay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from janus.data.blocks import Stream
from janus.data.config import DataOrder
from janus.data.order import I64, Shares
from janus.data.shards import Pool, Row, RowIndex

WHOLE = 2**30
"""Sum of the parts that shares of a pool's sources are expressed in."""


class MixedPool:
    """A pool whose sources have shares of their own: its rows, in another stream."""

    def __init__(self, pool: Pool, shares: Mapping[str, float]) -> None:
        """Args: a pool with the shards of each source side by side; the share of each source, which add up to 1."""
        self.name = pool.name
        self.sources = pool.sources
        self._pool = pool
        self._parts = [math.floor(shares[source] * WHOLE) for source in pool.sources]
        self._shares = Shares(self._parts)
        self._firsts = np.cumsum([0, *pool.sources.values()])[:-1]

    def __len__(self) -> int:
        return len(self._pool)

    def shares(self) -> dict[str, float]:
        """Share of each source."""
        return {source: part / sum(self._parts) for source, part in zip(self.sources, self._parts, strict=True)}

    def stream(self, order: DataOrder) -> Stream:
        """Row, and epoch of its source, of each index: every row of a source once per epoch of that source."""
        # A source's part of the stream is mixed over its part of a block, so a window touches no more shards than one.
        blocks = [max(1, round(order.block_shards * share)) for share in self.shares().values()]
        streams = [
            self._pool.stream_of(name, replace(order, block_shards=shards))
            for name, shards in zip(self.sources, blocks, strict=True)
        ]

        def mixed(index: I64) -> tuple[I64, I64]:
            source, place = self._shares.places(index)
            row, epoch = np.empty(len(index), np.int64), np.empty(len(index), np.int64)
            for number, one in enumerate(streams):
                here = np.flatnonzero(source == number)
                found, epoch[here] = one(place[here])
                row[here] = found + self._firsts[number]
            return row, epoch

        return mixed

    def census(self) -> npt.NDArray[np.int64]:
        """Numbers of rows, as many of each source as its share: enough to know the length distribution."""
        known = self._pool.census()
        source = np.searchsorted(self._firsts, known, side="right") - 1
        chosen = []
        for number, part in enumerate(self._parts):
            rows = known[source == number]
            if part and len(rows):
                wanted = max(1, round(len(known) * part / WHOLE))
                spread = (
                    np.arange(wanted) * len(rows) // wanted if wanted < len(rows) else np.arange(wanted) % len(rows)
                )
                chosen.append(rows[spread])
        return np.concatenate(chosen)

    def look_up(self, rows: npt.NDArray[np.int64]) -> RowIndex:
        """Lengths and identities of `rows`, in their order."""
        return self._pool.look_up(rows)

    def row(self, number: int) -> Row:
        """Row `number` of the pool."""
        return self._pool.row(number)

    def unverified_bytes(self) -> int:
        """As the pool's."""
        return self._pool.unverified_bytes()

    def where(self, number: int) -> str:
        """Shard and row number of a row of the pool, for error messages."""
        return self._pool.where(number)

    def source_of(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Source of each row."""
        return self._pool.source_of(rows)

    def shards_of(self, rows: npt.NDArray[np.int64]) -> list[int]:
        """Numbers of the shards that hold `rows`."""
        return self._pool.shards_of(rows)

    def prepare(self, number: int) -> None:
        """Bring a shard into the local cache, if the corpus lies in an object store."""
        self._pool.prepare(number)
