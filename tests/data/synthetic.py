"""A table of any number of rows that exists only as arithmetic: for plans over mixtures larger than any disk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from janus.data.blocks import BlockOrder
from janus.data.config import DataOrder
from janus.data.order import I64, key64, mix64, shuffled
from janus.data.shards import RowIndex


class Counted:
    """`rows` rows with lengths spread over [low, high), and the number of rows that were ever asked for."""

    SHARD_ROWS = 2048

    def __init__(self, name: str, rows: int, low: int, high: int) -> None:
        self.name = name
        self.touched = 0
        self._rows, self._low, self._high = rows, low, high

    def __len__(self) -> int:
        return self._rows

    def stream(self, index: I64, order: DataOrder) -> tuple[I64, I64]:
        key = key64("order", order.seed, self.name)
        if order.shuffle == "block":
            return self.block_order(order.block_shards, key).rows(index)
        return shuffled(index, self._rows, key)

    def look_up(self, rows: npt.NDArray[np.int64]) -> RowIndex:
        self.touched += len(rows)
        identity = mix64(rows.astype(np.uint64) + np.uint64(key64(self.name)))
        length = (self._low + (identity >> np.uint64(20)) % np.uint64(self._high - self._low)).astype(np.int32)
        return RowIndex(length, np.maximum(self._low, length - 30), identity)

    def census(self) -> npt.NDArray[np.int64]:
        return np.arange(0, self._rows, max(1, self._rows // 50_000))

    def block_order(self, block_shards: int, key: int) -> BlockOrder:
        whole, rest = divmod(self._rows, self.SHARD_ROWS)
        rows = [self.SHARD_ROWS] * whole + [rest] * (rest > 0)
        return BlockOrder(rows, ["one"] * len(rows), block_shards, key)

    def where(self, number: int) -> str:
        return f"{self.name}: row {number}"
