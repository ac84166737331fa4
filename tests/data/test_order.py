"""The permutation, the ratio cycle and the augmentation, against plain-Python references."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from janus.data.order import Cycle, key64, mix64, permute, shuffled, unit_interval

WORD = (1 << 64) - 1


def reference_mix(value: int) -> int:
    """SplitMix64's output function as published (Steele, Lea, Flood 2014; Vigna's C code)."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & WORD
    return value ^ (value >> 31)


def reference_permute(position: int, size: int, key: int) -> int:
    left = 1
    while left * left < size:
        left += 1
    right = -(-size // left)
    while True:
        high, low = divmod(position, right)
        for number in range(6):
            high = (
                high + reference_mix(low ^ reference_mix(key + (2 * number + 1) * 0x9E3779B97F4A7C15 & WORD))
            ) % left
            low = (
                low + reference_mix(high ^ reference_mix(key + (2 * number + 2) * 0x9E3779B97F4A7C15 & WORD))
            ) % right
        position = high * right + low
        if position < size:
            return position


def test_mix64_is_the_published_function() -> None:
    values = [0, 1, 2, 0x9E3779B97F4A7C15, WORD, 123456789]
    assert mix64(np.array(values, np.uint64)).tolist() == [reference_mix(value) for value in values]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 99, 1000, 4099])
@pytest.mark.parametrize("key", [0, 7, WORD])
def test_permutation_takes_every_value_once(size: int, key: int) -> None:
    result = permute(np.arange(size), size, np.array([key], np.uint64))
    assert sorted(result.tolist()) == list(range(size))


def test_permutation_equals_the_reference_without_vectors() -> None:
    for size in (1, 10, 97, 1_000_003):
        positions = np.arange(0, size, max(1, size // 50))
        result = permute(positions, size, np.array([42], np.uint64))
        assert result.tolist() == [reference_permute(int(position), size, 42) for position in positions]


def test_permutation_stays_inside_at_a_billion_rows() -> None:
    size = 1_000_000_007
    positions = np.arange(0, size, size // 10_000)
    result = permute(positions, size, np.array([3], np.uint64))
    assert result.min() >= 0
    assert result.max() < size
    assert len(set(result.tolist())) == len(positions)


def test_permutation_shuffles_evenly() -> None:
    """Each of 6 positions takes each of 6 values equally often over many keys (chi-square, 25 degrees of freedom)."""
    size, keys = 6, 6000
    counts = np.zeros((size, size))
    for position in range(size):
        values = permute(np.full(keys, position), size, mix64(np.arange(keys, dtype=np.uint64)))
        counts[position] = np.bincount(values, minlength=size)
    chi_square = ((counts - keys / size) ** 2 / (keys / size)).sum()
    assert chi_square < 52.6  # p = 0.001


def test_neighbours_are_torn_apart() -> None:
    result = permute(np.arange(10_000), 10_000, np.array([1], np.uint64))
    assert abs(np.corrcoef(result[:-1], result[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(10_000), result)[0, 1]) < 0.05


def test_each_epoch_holds_every_row_once_in_another_order() -> None:
    rows, epochs = shuffled(np.arange(3 * 57), 57, key64("x"))
    orders = [rows[epochs == epoch].tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(57)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_order_can_be_entered_anywhere() -> None:
    whole, whole_epochs = shuffled(np.arange(1000), 130, 9)
    part, part_epochs = shuffled(np.arange(700, 800), 130, 9)
    assert part.tolist() == whole[700:800].tolist()
    assert part_epochs.tolist() == whole_epochs[700:800].tolist()


RATIOS = [(7, 3, 10), (2, 3, 5), (1, 0, 1), (5, 1, 4), (1, 0, 3), (0, 1, 0), (1, 1, 1), (13, 1, 97)]


@pytest.mark.parametrize("ratio", RATIOS)
def test_every_cycle_has_the_exact_ratio(ratio: tuple[int, int, int]) -> None:
    cycle = Cycle(ratio)
    for number in (0, 1, 17, 10**9):
        task, _ = cycle.slots(number * cycle.length, (number + 1) * cycle.length)
        assert np.bincount(task, minlength=3).tolist() == list(ratio)


@pytest.mark.parametrize("ratio", RATIOS)
def test_any_run_of_cycle_length_has_the_exact_ratio_and_tasks_are_spread(ratio: tuple[int, int, int]) -> None:
    cycle = Cycle(ratio)
    task, _ = cycle.slots(0, 3 * cycle.length)
    for start, stop in itertools.product(range(2 * cycle.length), [cycle.length]):
        assert np.bincount(task[start : start + stop], minlength=3).tolist() == list(ratio)
    for number, count in enumerate(ratio):
        drawn = np.cumsum(task == number)
        ideal = np.arange(1, len(task) + 1) * count / cycle.length
        assert np.abs(drawn - ideal).max() < 2


def test_slots_count_their_task_without_gaps() -> None:
    cycle = Cycle((7, 3, 10))
    task, index = cycle.slots(0, 200)
    seen: Counter[int] = Counter()
    for slot, (name, number) in enumerate(zip(task.tolist(), index.tolist(), strict=True)):
        assert number == seen[name]
        assert cycle.drawn(slot).tolist() == [seen[0], seen[1], seen[2]]
        seen[name] += 1


def test_unit_interval_is_even_and_a_function_of_its_arguments() -> None:
    first = mix64(np.arange(100_000, dtype=np.uint64))
    zeros = np.zeros(100_000, np.uint64)
    values = unit_interval(5, first, zeros)
    assert values.min() >= 0
    assert values.max() < 1
    deciles = np.bincount((values * 10).astype(int), minlength=10)
    assert ((deciles - 10_000) ** 2 / 10_000).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    assert unit_interval(5, first[7:8], zeros[:1])[0] == values[7]
    for other in (unit_interval(6, first, zeros), unit_interval(5, first, zeros + np.uint64(1))):
        assert abs(np.corrcoef(values, other)[0, 1]) < 0.02
