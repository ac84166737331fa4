"""Near pictures: all pairs of 64-bit perceptual hashes within a Hamming radius, at bounded cost per hash (design D16).

Cut 64 bits into p pieces. Two hashes that differ in at most r bits differ in at most r pieces, so they agree in at
least p - r of them (the pigeonhole principle). Compare, for each choice of p - r pieces, the hashes that agree in all
of these, and no pair is missed. Larger p makes more keys, and longer ones, and so fewer comparisons:

    radius 4     p = 5    6      7      8      9
    keys             5    15     35     70     126
    bits of a key    12   20     27     32     35

`pieces_for` takes the fewest that keep the expected comparisons per hash under COMPARISONS, however many hashes.

A choice of pieces is met where its first piece is: every hash is handed to r + 1 places only, by the values of its
first r + 1 pieces, and all further pieces are compared there in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

EDGE = np.dtype([("one", "<u8"), ("other", "<u8")])
COMPARISONS = 32
"""Expected per hash, were hashes evenly spread."""
ROUNDS = 64
"""Rounds over all edges at once in `kept`, before what is left (long chains) is gone through one by one."""


def pieces_for(hashes: int, radius: int) -> int:
    """Number of pieces to cut the bits of so many hashes into: at least radius + 1."""
    for pieces in range(radius + 1, 65):
        bits = sum(sorted(width for _, width in pieces_of(pieces))[: pieces - radius])
        if comb(pieces, radius) * hashes <= COMPARISONS * 2**bits:
            return pieces
    return 64


@lru_cache(16)
def pieces_of(pieces: int) -> tuple[tuple[int, int], ...]:
    """(shift, width) of each piece of the 64 bits, from the lowest."""
    edges = np.linspace(0, 64, pieces + 1).round().astype(int).tolist()
    return tuple((low, high - low) for low, high in pairwise(edges))


def piece_values(hashes: U64, piece: tuple[int, int]) -> U64:
    """The bits of `hashes` in `piece`: uint64[N]."""
    shift, width = piece
    return (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)


def places(hashes: U64, pieces: int, radius: int, per_piece: int) -> Iterator[npt.NDArray[np.int64]]:
    """Where each hash meets others: int64[N] in [0, (radius + 1) * per_piece), once for each of the first pieces."""
    for number, piece in enumerate(pieces_of(pieces)[: radius + 1]):
        yield number * per_piece + (piece_values(hashes, piece) % np.uint64(per_piece)).astype(np.int64)


def pairs(hashes: U64, first: int, pieces: int, radius: int) -> np.ndarray:
    """Pairs of distinct `hashes` within the radius whose first agreeing piece is `first`: EDGE[E], each once.

    Args:
        hashes: uint64[N], distinct; all that have some values in that piece.
        first: number of a piece.
    """
    found = []
    for others in combinations(range(first + 1, pieces), pieces - radius - 1):
        key = (first, *others)
        found.append(_pairs_of_key(hashes, key, pieces, radius))
    return np.concatenate([np.empty(0, EDGE), *found])


def _pairs_of_key(hashes: U64, key: tuple[int, ...], pieces: int, radius: int) -> np.ndarray:
    """Pairs within the radius whose first pieces - radius agreeing pieces are those of `key`."""
    values = np.zeros(len(hashes), np.uint64)
    for number in key:
        shift, width = pieces_of(pieces)[number]
        values = (values << np.uint64(width)) | piece_values(hashes, (shift, width))
    order = np.argsort(values)
    hashes, values = hashes[order], values[order]
    found = []
    at = np.arange(len(hashes) - 1)
    for step in range(1, len(hashes)):
        at = at[at + step < len(hashes)]
        at = at[values[at] == values[at + step]]
        if not len(at):
            break
        differ = hashes[at] ^ hashes[at + step]
        close = np.bitwise_count(differ) <= radius
        close[close] = _first_agreeing(differ[close], key, pieces)
        edges = np.empty(int(close.sum()), EDGE)
        one, other = hashes[at[close]], hashes[at[close] + step]
        edges["one"], edges["other"] = np.minimum(one, other), np.maximum(one, other)
        found.append(edges)
    return np.concatenate([np.empty(0, EDGE), *found])


def _first_agreeing(differ: U64, key: tuple[int, ...], pieces: int) -> npt.NDArray[np.bool_]:
    """Whether no piece before the last of `key` agrees but those of `key`: so each pair has one key. bool[N]."""
    first = np.ones(len(differ), np.bool_)
    for number in range(key[-1]):
        if number not in key:
            first &= piece_values(differ, pieces_of(pieces)[number]) != 0
    return first


def kept(count: int, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Go through 0 ... count - 1 in order; each is kept unless it is close to a kept one.

    Args:
        count: how many there are, in order of preference.
        before, after: int64[E], the two of each close pair, before < after.

    Returns:
        int64[count]: -1 for the kept, else the first kept one it is close to.
    """
    open_, keep, lose = 0, 1, 2
    state = np.zeros(count, np.int8)
    one, other = before, after
    for _ in range(ROUNDS):
        if not len(one):
            break
        # A row that waits for none is kept; one close to a kept row is dropped, and none waits for it any more.
        waits = np.zeros(count, np.bool_)
        waits[other] = True
        state[(state == open_) & ~waits] = keep
        state[other[state[one] == keep]] = lose
        left = (state[one] == open_) & (state[other] == open_)
        one, other = one[left], other[left]
    if len(one):
        neighbours: dict[int, list[int]] = {}
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            neighbours.setdefault(b, []).append(a)
        for place in np.flatnonzero(state == open_).tolist():
            state[place] = lose if any(state[a] == keep for a in neighbours.get(place, ())) else keep
    state[state == open_] = keep
    winner = np.full(count, count, np.int64)
    decisive = (state[before] == keep) & (state[after] == lose)
    np.minimum.at(winner, after[decisive], before[decisive])
    return np.where(state == keep, -1, winner)
