"""Decoding ahead: in order, bounded, and an error stays where it belongs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.steps.prefetch import chunks, ordered_map


def slow_square(number: int) -> int:
    time.sleep(0.001 * (number % 5))
    return number * number


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_results_come_in_order(threads: int, count: int) -> None:
    assert list(ordered_map(slow_square, range(count), threads=threads, ahead=8)) == [n * n for n in range(count)]


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (4, 7)])
def test_no_more_than_asked_is_held(threads: int, most: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for given, _ in enumerate(ordered_map(slow_square, items(), threads=threads, ahead=6), start=1):
        assert taken - given < most


def test_an_error_comes_at_its_place_and_threads_end() -> None:
    def fail_at_five(number: int) -> int:
        if number == 5:
            raise KeyError(number)
        return number

    before = threading.active_count()
    seen = []
    with pytest.raises(KeyError):
        seen.extend(ordered_map(fail_at_five, range(9), threads=3, ahead=4))
    assert threading.active_count() == before


def test_chunks_cover_everything() -> None:
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks([], 3)) == []
