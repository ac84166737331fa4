"""Block order: exact per epoch, few shards at a time, sources spread evenly, no state."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from janus.data.blocks import BlockOrder
from janus.data.order import key64, mix64, permute

ROWS = [5, 1, 7, 3, 3, 9, 2, 8, 6, 4, 1]
SOURCES = ["a", "a", "b", "a", "c", "b", "a", "b", "a", "a", "b"]


def order(block: int = 3, rows: list[int] = ROWS, sources: list[str] = SOURCES, key: int = 7) -> BlockOrder:
    return BlockOrder(rows, sources, block, key)


def drawn(blocks: BlockOrder, start: int, stop: int) -> list[tuple[int, int]]:
    row, epoch = blocks.rows(np.arange(start, stop))
    return list(zip(row.tolist(), epoch.tolist(), strict=True))


def by_hand(block: int, epoch: int, key: int = 7) -> list[int]:
    """The rows of an epoch, spelled out shard by shard."""
    places = []
    for name in sorted(set(SOURCES)):
        members = [number for number, source in enumerate(SOURCES) if source == name]
        source_key = key64("shards", key, epoch, name)
        for j in range(len(members)):
            place = int(permute(np.asarray([j]), len(members), np.asarray([source_key], np.uint64))[0])
            offset = (source_key >> 11) / 2**53
            places.append(((j + offset) / len(members), name, members[place]))
    shards = [number for _, _, number in sorted(places)]
    rows = []
    for first in range(0, len(shards), block):
        here = [sum(ROWS[:shard]) + row for shard in shards[first : first + block] for row in range(ROWS[shard])]
        row_key = mix64(np.asarray([first // block], np.uint64) + np.uint64(key64("rows", key, epoch)))
        rows += [here[int(permute(np.asarray([at]), len(here), row_key)[0])] for at in range(len(here))]
    return rows


@pytest.mark.parametrize("block", [1, 2, 3, 11, 100])
def test_it_is_what_it_says(block: int) -> None:
    size = sum(ROWS)
    for epoch in (0, 1, 5):
        found = drawn(order(block), epoch * size, (epoch + 1) * size)
        assert found == [(row, epoch) for row in by_hand(block, epoch)]


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_every_row_once_an_epoch_and_no_two_epochs_alike(block: int) -> None:
    size = sum(ROWS)
    assert len(order(block)) == size
    epochs = [tuple(row for row, _ in drawn(order(block), e * size, (e + 1) * size)) for e in range(20)]
    for rows in epochs:
        assert sorted(rows) == list(range(size))
    assert len(set(epochs)) == 20
    assert len({tuple(row for row, _ in drawn(order(block, key=key), 0, size)) for key in range(20)}) == 20


def test_any_index_alone_and_in_any_company() -> None:
    """No state: what an index gives depends neither on others asked with it nor on those asked before."""
    blocks, size = order(), sum(ROWS)
    expected = drawn(blocks, 0, 5 * size)
    indices = list(range(5 * size))
    random.Random(0).shuffle(indices)
    row, epoch = blocks.rows(np.asarray(indices))
    assert list(zip(row.tolist(), epoch.tolist(), strict=True)) == [expected[index] for index in indices]
    assert [drawn(order(), index, index + 1)[0] for index in indices[:50]] == [expected[i] for i in indices[:50]]


def test_a_stretch_touches_the_shards_of_its_blocks_only() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 200, 1000).tolist()
    sources = [f"s{number}" for number in rng.integers(0, 5, 1000)]
    blocks = order(16, rows, sources)
    first = np.concatenate([[0], np.cumsum(rows)])
    for start in rng.integers(0, 3 * len(blocks), 20).tolist():
        index = np.arange(start, start + 500)
        touched = set((np.searchsorted(first, blocks.rows(index)[0], side="right") - 1).tolist())
        announced = blocks.shards(index).tolist()
        assert touched <= set(announced), "what is fetched ahead is what is read"
        assert len(announced) <= 16 * 3, "500 rows lie in two blocks mostly, in three where blocks are small"
        assert len(set(announced)) == len(announced) or len(announced) > 16


def test_sources_are_spread_evenly() -> None:
    """Any run of whole blocks holds each source's share of the shards, give or take one a side."""
    sources = ["large"] * 900 + ["small"] * 90 + ["rare"] * 10
    blocks = order(100, [10] * 1000, sources)
    for epoch in range(5):
        for number in range(10):
            found = Counter(sources[shard] for shard in blocks.shards(np.asarray([epoch * 10_000 + number * 1000])))
            assert abs(found["large"] - 90) <= 2
            assert abs(found["small"] - 9) <= 2
            assert found["rare"] <= 2


def test_shards_move_between_blocks_from_epoch_to_epoch() -> None:
    blocks = order(10, [10] * 100, ["one"] * 100)
    first = {epoch: frozenset(blocks.shards(np.asarray([epoch * 1000])).tolist()) for epoch in range(30)}
    assert len(set(first.values())) == 30
    assert len(frozenset.union(*first.values())) > 90


def test_rows_of_a_block_are_mixed() -> None:
    """Neighbours in the stream come from the same shard as often as chance has it: 1 in 16."""
    blocks = order(16, [256] * 64, ["one"] * 64)
    shard = blocks.rows(np.arange(64 * 256))[0] // 256
    together = float((shard[1:] == shard[:-1]).mean())
    assert abs(together - 1 / 16) < 0.01


def test_large_pools_are_looked_up_without_visiting_them() -> None:
    blocks = order(256, [2048] * 500_000, ["a", "b"] * 250_000)
    row, epoch = blocks.rows(np.arange(10**12, 10**12 + 1000))
    assert set(epoch.tolist()) == {10**12 // (2048 * 500_000)}
    assert len(set(row.tolist())) == 1000
