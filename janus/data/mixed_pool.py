"""A pool whose sources do not simply come as often as they have rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from janus.data.config import DataOrder
from janus.data.order import I64, Shares, key64, shuffled
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
        self._sizes = list(pool.sources.values())
        self._firsts = np.cumsum([0, *self._sizes])[:-1]

    def __len__(self) -> int:
        return len(self._pool)

    def shares(self) -> dict[str, float]:
        """Share of each source."""
        return {source: part / sum(self._parts) for source, part in zip(self.sources, self._parts, strict=True)}

    def stream(self, index: I64, order: DataOrder) -> tuple[I64, I64]:
        """Row, and epoch of its source, of each index: every row of a source once per epoch of that source."""
        source, place = self._shares.places(index)
        row, epoch = np.empty(len(index), np.int64), np.empty(len(index), np.int64)
        for number, name in enumerate(self.sources):
            here = np.flatnonzero(source == number)
            key = key64("order", order.seed, self.name, name)
            if order.shuffle == "block":
                share = max(1, round(order.block_shards * self._parts[number] / sum(self._parts)))
                found, epoch[here] = self._pool.blocks(name, share, key).rows(place[here])
            else:
                found, epoch[here] = shuffled(place[here], self._sizes[number], key)
            row[here] = found + self._firsts[number]
        return row, epoch

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
