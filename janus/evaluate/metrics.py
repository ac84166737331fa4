"""Scores with confidence intervals, and two runs compared (design D19).

A score is a weighted sum of ratios, and a ratio is a sum over rows by a sum over rows. That covers accuracy, F1, MME's
sums and GenEval's mean of tasks, and lets thousands of bootstrap resamples be one matrix product. What is drawn anew is
the *unit*: a question, all rotations of a question, all pictures of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = Mapping[str, Any]
"""One answer or picture with its verdict: a line of `rows.jsonl`."""

RESAMPLES = 2000
_CHUNK = 50
"""Resamples at once."""


@dataclass(frozen=True)
class Metric:
    """`sum(weight * top.sum() / bottom.sum())` over the parts; top and bottom are float64[rows]."""

    parts: tuple[tuple[float, np.ndarray, np.ndarray], ...]

    @property
    def value(self) -> float:
        """The score. A part that counts nothing is 0: the precision of a model that never says yes."""
        sums = [(weight, top.sum(), bottom.sum()) for weight, top, bottom in self.parts]
        return float(sum(weight * top / bottom for weight, top, bottom in sums if bottom))

    def __mul__(self, factor: float) -> Metric:
        return Metric(tuple((weight * factor, top, bottom) for weight, top, bottom in self.parts))

    def __add__(self, other: Metric) -> Metric:
        return Metric(self.parts + other.parts)


@dataclass(frozen=True)
class Estimate:
    """A score and its 95 % interval; None where there is no interval (a score of the set as a whole)."""

    value: float
    low: float | None = None
    high: float | None = None


Metrics = dict[str, "Metric | float"]
"""Name to score. A float has no interval."""


def ratio(top: Sequence[float] | np.ndarray, bottom: Sequence[float] | np.ndarray) -> Metric:
    """The sum of `top` by the sum of `bottom`, one value per row each."""
    return Metric(((1.0, np.asarray(top, np.float64), np.asarray(bottom, np.float64)),))


def mean(values: Sequence[float] | np.ndarray, where: Sequence[bool] | np.ndarray | None = None) -> Metric:
    """The mean of `values`, one per row, over the rows in `where`; all if it is not given."""
    counted = np.ones(len(values)) if where is None else np.asarray(where, np.float64)
    return ratio(np.asarray(values, np.float64) * counted, counted)


def total(metrics: Iterable[Metric]) -> Metric:
    """The sum of metrics. Raises ValueError if there is none."""
    parts = tuple(part for metric in metrics for part in metric.parts)
    if not parts:
        raise ValueError("a sum of no metrics")
    return Metric(parts)


def average(metrics: Iterable[Metric]) -> Metric:
    """The mean of metrics, each counted alike however many rows it has."""
    metrics = list(metrics)
    return total(metrics) * (1 / max(len(metrics), 1))


def accuracy(rows: Sequence[Row], by: str = "category") -> Metrics:
    """Share of right answers and of answers that could not be read, and the former for each value of `by`.

    Rows hold `correct` (0 to 1) and `read` (None for unreadable). Rows without `by` count in the whole only.
    """
    correct = [float(row["correct"]) for row in rows]
    result: Metrics = {
        "accuracy": mean(correct),
        "unreadable": mean([row.get("read", "") is None for row in rows]),
    }
    for group in sorted({str(row[by]) for row in rows if row.get(by)}):
        result[group] = mean(correct, [str(row.get(by)) == group for row in rows])
    return result


def estimate(metrics: Mapping[str, Metric | float], units: Sequence[str], seed: int = 0) -> dict[str, Estimate]:
    """Each score with the 2.5 % and 97.5 % quantiles of a bootstrap over units.

    Args:
        units: of each row, what is drawn anew as one.
        seed: of the resampling; the same rows give the same interval.
    """
    named = {name: metric for name, metric in metrics.items() if isinstance(metric, Metric)}
    drawn = _resampled(list(named.values()), _index(units), seed) if named else np.empty((0, 0))
    result = {}
    for name, metric in metrics.items():
        if not isinstance(metric, Metric):
            result[name] = Estimate(float(metric))
            continue
        values = drawn[list(named).index(name)]
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.025, 0.975]) if len(values) else (metric.value, metric.value)
        result[name] = Estimate(metric.value, float(low), float(high))
    return result


@dataclass(frozen=True)
class Difference:
    """Score of one run less that of another over the same units."""

    value: float
    low: float
    high: float
    """95 % interval of the paired bootstrap."""
    p: float
    """Two-sided p of the paired permutation test: how often swapping runs at random gives as large a difference."""


def difference(ours: Metric, theirs: Metric, units: Sequence[str], seed: int = 0) -> Difference:
    """Compare two runs. Rows and units of both must be the same, in the same order; parts too."""
    index = _index(units)
    both = _resampled([ours, theirs], index, seed)
    drawn = both[0] - both[1]
    drawn = drawn[np.isfinite(drawn)]
    observed = ours.value - theirs.value
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (observed, observed)
    swapped = _permuted(ours, theirs, index, seed)
    as_large = np.abs(swapped) >= abs(observed) - 1e-12
    # The observed arrangement is one of those that are possible, so p is never 0.
    return Difference(observed, float(low), float(high), float((as_large.sum() + 1) / (len(swapped) + 1)))


def _index(units: Sequence[str]) -> np.ndarray:
    """int64[rows]: number of each row's unit, in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(unit, len(numbers)) for unit in units], np.int64)


def _sums(metric: Metric, index: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights float64[parts], and tops and bottoms per unit, float64[units, parts]."""
    tops = np.stack([np.bincount(index, top, units) for _, top, _ in metric.parts], axis=1)
    bottoms = np.stack([np.bincount(index, bottom, units) for _, _, bottom in metric.parts], axis=1)
    return np.array([weight for weight, _, _ in metric.parts]), tops, bottoms


def _scores(counts: np.ndarray, weights: np.ndarray, tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """float64[resamples] from counts float64[resamples, units]; NaN where a part has no rows."""
    return _ratios(counts @ tops, counts @ bottoms) @ weights


def _ratios(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Top by bottom; NaN where the bottom is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottoms != 0, tops / bottoms, np.nan)


def _resampled(metrics: Sequence[Metric], index: np.ndarray, seed: int) -> np.ndarray:
    """float64[metrics, RESAMPLES]: scores of the same resamples of units."""
    units = int(index.max()) + 1
    sums = [_sums(metric, index, units) for metric in metrics]
    random = np.random.default_rng(seed)
    result = np.empty((len(metrics), RESAMPLES))
    for start in range(0, RESAMPLES, _CHUNK):
        counts = _drawn(random, units)
        for row, (weights, tops, bottoms) in enumerate(sums):
            result[row, start : start + _CHUNK] = _scores(counts, weights, tops, bottoms)
    return result


def _drawn(random: np.random.Generator, units: int) -> np.ndarray:
    """float64[_CHUNK, units]: how often each unit is drawn."""
    picks = random.integers(0, units, (_CHUNK, units))
    return np.stack([np.bincount(row, minlength=units) for row in picks]).astype(np.float64)


def _permuted(ours: Metric, theirs: Metric, index: np.ndarray, seed: int) -> np.ndarray:
    """float64[RESAMPLES]: differences with the runs swapped at random, unit by unit."""
    units = int(index.max()) + 1
    weights, our_tops, our_bottoms = _sums(ours, index, units)
    their_weights, their_tops, their_bottoms = _sums(theirs, index, units)
    if not np.array_equal(weights, their_weights):
        raise ValueError("two runs can only be compared part by part: their scores have other parts")
    random = np.random.default_rng(seed)
    result = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, _CHUNK):
        swap = (random.random((_CHUNK, units)) < 0.5).astype(np.float64)
        keep = 1 - swap
        first = _ratios(keep @ our_tops + swap @ their_tops, keep @ our_bottoms + swap @ their_bottoms)
        second = _ratios(swap @ our_tops + keep @ their_tops, swap @ our_bottoms + keep @ their_bottoms)
        result[start : start + _CHUNK] = np.nan_to_num(first - second) @ weights
    return result
