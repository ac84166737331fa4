"""Randomness as a pure function of a key: the same key gives the same throws on any machine and Python version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A stream of throws that depends on nothing but `key` (numbers and strings) and how many throws came before."""

    def __init__(self, *key: int | str) -> None:
        self._key = hashlib.blake2b("\0".join(str(part) for part in key).encode(), digest_size=32).digest()
        self._throws = 0

    def below(self, limit: int) -> int:
        """An integer from 0 to `limit` - 1."""
        block = hashlib.blake2b(self._throws.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        self._throws += 1
        return int.from_bytes(block, "little") % limit  # 64 bits over a small limit: the bias is under 1e-15

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return self.below(1 << 53) < share * (1 << 53)

    def choice(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of `items` in random order (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different ones of `items`, in random order."""
        return self.shuffled(items)[:count]
