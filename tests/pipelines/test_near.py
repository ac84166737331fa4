"""Near pairs by pigeonhole keys, and which hash stays, against brute force."""

from __future__ import annotations

import random
from math import comb
from pathlib import Path

import numpy as np
import pytest

from pipelines.steps.exchange import Exchange
from pipelines.steps.near import EDGE, kept, pairs, pieces_for, pieces_of, places
from storage.local import LocalStore


def clustered(count: int, seed: int) -> np.ndarray:
    """Distinct hashes, half of them a few flipped bits from another: uint64[count]."""
    rng = random.Random(seed)
    hashes: set[int] = set()
    while len(hashes) < count:
        value = rng.getrandbits(64)
        hashes.add(value)
        for _ in range(rng.randrange(3)):
            for _ in range(rng.randrange(1, 7)):
                value ^= 1 << rng.randrange(64)
            hashes.add(value)
    return np.array(sorted(hashes)[:count], np.uint64)


def close(hashes: np.ndarray, radius: int) -> set[tuple[int, int]]:
    found = np.argwhere(np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= radius)
    return {(int(hashes[a]), int(hashes[b])) for a, b in found if a < b}


@pytest.mark.parametrize("radius", [0, 1, 2, 4, 7, 16])
@pytest.mark.parametrize("more", [1, 2, 3, 4])
def test_every_pair_once(radius: int, more: int) -> None:
    """With any number of pieces, and however the places are spread."""
    hashes = clustered(300, seed=radius)
    pieces = radius + more
    if comb(pieces, radius) > 500:
        pieces = radius + 1
    found = []
    for per_piece in (1, 3):
        found = []
        for place in range((radius + 1) * per_piece):
            here = [h for h, p in zip(hashes, list(places(hashes, pieces, radius, per_piece))[place // per_piece],
                                      strict=True) if p == place]  # fmt: skip
            found += pairs(np.array(here, np.uint64), place // per_piece, pieces, radius).tolist()
        assert sorted(found) == sorted(close(hashes, radius)), "all of them, none twice"
    if radius in (4, 7):
        assert len(found) > 20, "or this shows nothing"


def test_pieces_grow_with_the_corpus() -> None:
    assert [pieces_for(10**n, 4) for n in range(3, 11)] == [5, 5, 6, 6, 7, 7, 8, 10]
    for radius in (0, 1, 4, 8, 16):
        for exponent in range(11):
            pieces = pieces_for(10**exponent, radius)
            assert pieces > radius
            bits = sum(width for _, width in sorted(pieces_of(pieces), key=lambda piece: piece[1])[: pieces - radius])
            expected = comb(pieces, radius) * 10**exponent / 2**bits
            assert expected <= 32 or pieces == 64, "comparisons per hash stay bounded"


def test_pieces_cover_the_bits() -> None:
    for pieces in range(1, 65):
        bits = [bit for shift, width in pieces_of(pieces) for bit in range(shift, shift + width)]
        assert bits == list(range(64))


def one_by_one(count: int, edges: list[tuple[int, int]]) -> list[int]:
    winners: list[int] = []
    for place in range(count):
        rivals = sorted(a for a, b in edges if b == place and winners[a] == -1)
        winners.append(rivals[0] if rivals else -1)
    return winners


@pytest.mark.parametrize("density", [0.2, 1, 3, 20])
def test_who_stays(density: float) -> None:
    for seed in range(30):
        rng = random.Random(seed)
        count = rng.randrange(2, 60)
        edges = sorted({tuple(sorted(rng.sample(range(count), 2))) for _ in range(int(density * count))})
        before, after = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
        assert kept(count, before, after).tolist() == one_by_one(count, edges)  # type: ignore[arg-type]


def test_a_long_chain() -> None:
    """Each is close to the one before it only: every second one stays."""
    count = 1001
    places_ = np.arange(count - 1)
    found = kept(count, places_, places_ + 1)
    assert found.tolist() == [-1 if place % 2 == 0 else place - 1 for place in range(count)]


def test_no_edges() -> None:
    nothing = np.empty(0, np.int64)
    assert kept(3, nothing, nothing).tolist() == [-1, -1, -1]
    assert pairs(np.array([7], np.uint64), 0, 6, 4).tolist() == []
    assert pairs(np.empty(0, np.uint64), 0, 6, 4).tolist() == []


ROW = np.dtype([("a", "<u4"), ("b", "S3")])


def test_an_exchange(tmp_path: Path) -> None:
    exchange = Exchange(LocalStore(tmp_path), "rows", ROW)
    rng = np.random.default_rng(0)
    sent: dict[int, list[tuple[int, bytes]]] = {part: [] for part in range(5)}
    for writer in range(3):
        rows = np.array([(int(v), b"x%d" % (v % 7)) for v in rng.integers(0, 1000, 20 * writer)], ROW)
        part = rng.integers(0, 4, len(rows))  # part 4 gets none
        exchange.write(writer, rows, part, 5)
        exchange.write(writer, rows, part, 5)  # a retry
        for row, number in zip(rows.tolist(), part.tolist(), strict=True):
            sent[number].append(row)
    for number, rows_of_part in sent.items():
        assert exchange.read(number, 3).tolist() == rows_of_part
    with pytest.raises(FileNotFoundError):
        exchange.read(0, 4)
    file = tmp_path / "rows/2.rows"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"rows/2\.rows: cut short"):
        exchange.read(3, 3)
    with pytest.raises(ValueError, match="cut short"):
        exchange.read(5, 1)


def test_edges_have_their_type() -> None:
    found = pairs(np.array([0, 1, 2**63], np.uint64), 0, 2, 1)
    assert found.dtype == EDGE
