from __future__ import annotations

import numpy as np
import pytest

from janus.evaluate.metrics import accuracy, average, difference, estimate, mean, ratio, total


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    # 300 of 1,000 right: standard error sqrt(.3 * .7 / 1000) = .01449, so 95 % is .3 -+ .0284.
    found = estimate({"accuracy": mean([1.0] * 300 + [0.0] * 700)}, [str(index) for index in range(1000)])["accuracy"]
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.2716, abs=0.004)
    assert found.high == pytest.approx(0.3284, abs=0.004)


def test_rows_of_one_unit_are_drawn_together() -> None:
    # Four copies of each answer say nothing new: the interval must stay as wide as that of the 100 answers.
    answers = ([1.0] * 30 + [0.0] * 70) * 4
    units = [str(index) for index in range(100)] * 4
    clustered = estimate({"a": mean(answers)}, units)["a"]
    apart = estimate({"a": mean(answers)}, [str(index) for index in range(400)])["a"]
    assert clustered.high - clustered.low == pytest.approx(2 * 1.96 * (0.3 * 0.7 / 100) ** 0.5, rel=0.1)
    assert apart.high - apart.low == pytest.approx((clustered.high - clustered.low) / 2, rel=0.1)


def test_sums_and_means_of_ratios() -> None:
    first, second = mean([1, 0, 1, 1], [True, True, False, False]), mean([1, 0, 1, 1], [False, False, True, True])
    assert (first.value, second.value) == (0.5, 1.0)
    assert average([first, second]).value == pytest.approx(0.75)
    assert total([first * 100, second * 100]).value == pytest.approx(150)
    assert ratio([0, 0], [0, 0]).value == 0.0


def test_a_group_that_a_resample_misses_does_not_break_the_interval() -> None:
    rows = [{"correct": 1.0, "read": "a", "category": "rare"}] + [{"correct": 0.0, "read": None, "category": "x"}] * 9
    found = estimate(accuracy(rows), [str(index) for index in range(10)])
    assert found["accuracy"].value == pytest.approx(0.1)
    assert found["unreadable"].value == pytest.approx(0.9)
    assert (found["rare"].low, found["rare"].high) == (1.0, 1.0)


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    # The runs differ in 12 of 1,000 answers, all for the better: the sign test gives p = 2 / 2^12 = .0005.
    base = np.array([1.0] * 500 + [0.0] * 500)
    better = base.copy()
    better[500:512] = 1.0
    units = [str(index) for index in range(1000)]
    found = difference(mean(better), mean(base), units)
    assert found.value == pytest.approx(0.012)
    assert 0 < found.low < 0.012 < found.high < 0.02
    assert found.p < 0.005
    same = difference(mean(base), mean(base), units)
    assert (same.value, same.p) == (0.0, 1.0)


def test_the_p_value_is_the_exact_one_where_it_can_be_counted() -> None:
    # Three of four units differ, all in one direction: swapping signs gives as large a sum in 2 of 8 cases.
    found = difference(mean([1.0, 1.0, 1.0, 0.0]), mean([0.0, 0.0, 0.0, 0.0]), list("abcd"))
    assert found.p == pytest.approx(0.25, abs=0.03)


def test_intervals_are_the_same_every_time() -> None:
    rows = {"a": mean(np.arange(50) % 3 == 0)}
    units = [str(index) for index in range(50)]
    assert estimate(rows, units) == estimate(rows, units)


def test_scores_that_count_nothing_do_not_differ() -> None:
    nothing = ratio([0.0, 0.0], [0.0, 0.0])
    assert difference(nothing, nothing, ["a", "b"]).p == 1.0
