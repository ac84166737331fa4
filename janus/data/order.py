"""Closed-form order: a permutation and a ratio cycle that any index can be looked up in, with no state (design D8).

All arithmetic is on unsigned 64-bit integers that wrap, vectorised over the indices asked for. A change of anything
here changes the data order of every run: it is a breaking change (CHANGELOG, `ORDER_VERSION`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ORDER_VERSION = 1
"""Version of the data order. Part of a run's resume state: another version is refused."""

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 6
_MASK = (1 << 64) - 1


def key64(*parts: object) -> int:
    """A 64-bit key from the text of `parts`: the first 8 bytes of their SHA-256."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def mix64(values: U64) -> U64:
    """SplitMix64's finaliser: a bijection of 64-bit words in which every input bit moves every output bit."""
    mixed = values ^ (values >> np.uint64(30))
    mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
    mixed = mixed ^ (mixed >> np.uint64(27))
    mixed = mixed * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def unit_interval(key: int, first: U64, second: U64) -> npt.NDArray[np.float64]:
    """float64[N] in [0, 1): a pure function of `key` and of each pair (first, second)."""
    word = mix64(mix64(first ^ np.uint64(key)) + second * np.uint64(_GOLDEN))
    return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(positions: I64, size: int, keys: U64) -> I64:
    """Where each position of [0, size) goes, in the permutation named by its key.

    A Feistel network over the grid left x right just larger than `size`: each half is shifted by a hash of the other,
    which is a bijection whatever the hash. Results beyond `size` are sent through again ("cycle walking"); the grid
    has fewer than 2 * sqrt(size) + 1 surplus cells, so that is rare.

    Args:
        positions: int64[N] in [0, size).
        keys: uint64[N], one key per position (an epoch's key), or uint64[1].

    Returns:
        int64[N] in [0, size). For one key, all `size` positions give every value exactly once.
    """
    left = math.isqrt(size - 1) + 1
    right = -(-size // left)
    keys = np.broadcast_to(keys, positions.shape)
    result = _feistel(positions.astype(np.uint64), keys, left, right)
    outside = np.flatnonzero(result >= np.uint64(size))
    while outside.size:
        result[outside] = _feistel(result[outside], keys[outside], left, right)
        outside = outside[result[outside] >= np.uint64(size)]
    return result.astype(np.int64)


def _feistel(values: U64, keys: U64, left: int, right: int) -> U64:
    high, low = values // np.uint64(right), values % np.uint64(right)
    for number in range(_ROUNDS):
        round_keys = mix64(keys + np.uint64((2 * number + 1) * _GOLDEN & _MASK))
        high = (high + mix64(low ^ round_keys) % np.uint64(left)) % np.uint64(left)
        round_keys = mix64(keys + np.uint64((2 * number + 2) * _GOLDEN & _MASK))
        low = (low + mix64(high ^ round_keys) % np.uint64(right)) % np.uint64(right)
    return high * np.uint64(right) + low


def shuffled(index: I64, size: int, key: int) -> tuple[I64, I64]:
    """Row and epoch of each index of an endless stream over `size` rows, shuffled anew in every epoch.

    Every row comes exactly once in each run of `size` indices that starts at a multiple of `size`.
    """
    epoch, position = index // size, index % size
    epoch_keys = mix64(epoch.astype(np.uint64) + np.uint64(key))
    return permute(position, size, epoch_keys), epoch


class Cycle:
    """The endless sequence of tasks: the same `counts` of each task in every cycle, spread evenly (7:3:10 → 20 slots).

    Slot k belongs to cycle k // length; the task of a slot and the number of slots of each task before it are look-ups.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        self.length = int(self.counts.sum())
        # The j-th of c slots of a task wants to stand at (j + 1/2) / c of the cycle.
        wanted = [((j + 0.5) / count, task) for task, count in enumerate(counts) for j in range(count)]
        self._tasks = np.asarray([task for _, task in sorted(wanted)], dtype=np.int64)
        one_hot = self._tasks[:, None] == np.arange(len(counts))
        self._before = np.concatenate([np.zeros((1, len(counts)), np.int64), one_hot.cumsum(axis=0)])

    def drawn(self, slot: int) -> I64:
        """int64[tasks]: slots of each task among the first `slot` slots."""
        return slot // self.length * self.counts + self._before[slot % self.length]

    def slots(self, start: int, stop: int) -> tuple[I64, I64]:
        """Task, and index within that task, of the slots [start, stop)."""
        slot = np.arange(start, stop, dtype=np.int64)
        place = slot % self.length
        task = self._tasks[place]
        return task, slot // self.length * self.counts[task] + self._before[place, task]


class Shares:
    """The endless stream of a pool dealt to its sources: each has its `parts` of the sum of parts, spread evenly.

    Sources are split off one after another: of the first i places, floor(i * part / whole) are of the first source, and
    the rest is dealt to the others in the same way. So after any number of places each source has its share to within
    the number of sources, however small it is, and the place within a source's own stream is a look-up.
    """

    def __init__(self, parts: Sequence[int]) -> None:
        """Args: parts of each source, at least one above 0, with a sum below 2**31."""
        assert 0 < sum(parts) < 2**31
        assert min(parts) >= 0
        self.parts = list(parts)

    def places(self, index: I64) -> tuple[I64, I64]:
        """Source, and index within that source's stream, of each index of the pool's stream."""
        source, place = np.empty(len(index), np.int64), np.empty(len(index), np.int64)
        left, rest, whole = np.arange(len(index)), index, sum(self.parts)
        for number, part in enumerate(self.parts):
            before = _share(rest, part, whole)
            here = _share(rest + 1, part, whole) > before
            source[left[here]], place[left[here]] = number, before[here]
            left, rest, whole = left[~here], (rest - before)[~here], whole - part
            if not whole:
                break
        return source, place


def _share(count: I64, part: int, whole: int) -> I64:
    """floor(count * part / whole), without the overflow that the product of large counts would have."""
    return count // whole * part + count % whole * part // whole
