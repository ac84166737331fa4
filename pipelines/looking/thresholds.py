"""The thresholds of filters over single signal fields, and what others would keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from pipelines.filters import FILTERS, Filter

SHARES = (0.99, 0.95, 0.9, 0.75, 0.5, 0.25)
"""Of the rows that have a value: for each, the threshold that keeps so many."""


class Threshold(NamedTuple):
    """A bound that a filter of a source sets on a signal field."""

    field: str
    least: float
    greatest: float
    filter: str
    source: str

    @property
    def text(self) -> str:
        """For people: "at least 64 (size, photos)"."""
        parts = [f"at least {self.least:g}"] if math.isfinite(self.least) else []
        parts += [f"at most {self.greatest:g}"] if math.isfinite(self.greatest) else []
        return f"{' and '.join(parts)} ({self.filter}, {self.source})"


def thresholds(filters: Mapping[str, Iterable[Filter]]) -> list[Threshold]:
    """The thresholds of each source's filters. A filter whose bound is not on a single field has none."""
    found = []
    for source, of_source in filters.items():
        for filter in of_source:
            for field, (least, greatest) in bounds(filter).items():
                found.append(Threshold(field, least, greatest, filter.name, source))
    return found


def bounds(filter: Filter) -> dict[str, tuple[float, float]]:
    """Signal field to the least and greatest value that a filter leaves.

    What its module says, if it does; else what the names of its options do: `min_words` bounds the field it reads that
    is called `words`, `min` and `max` the only one it reads.
    """
    if hasattr(filter.module, "bounds"):
        return {
            field: (float(least), float(most)) for field, (least, most) in filter.module.bounds(filter.options).items()
        }
    found: dict[str, tuple[float, float]] = {}
    for option, value in filter.options.model_dump(exclude_defaults=True, exclude_none=True).items():
        side, _, name = option.partition("_")
        fields = [field for field in filter.reads if not name or field.partition(".")[2] == name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if side not in ("min", "max") or len(fields) != 1 or not number or filter.name in _NOT_BOUNDS:
            continue
        least, most = found.get(fields[0], (-math.inf, math.inf))
        found[fields[0]] = (value, most) if side == "min" else (least, value)
    return found


_NOT_BOUNDS = frozenset({"language"})
"""Filters whose min_... is no bound: a language less certain than `min_score` is not judged."""


def kept(values: np.ndarray, least: float, greatest: float) -> int:
    """How many of the values are within bounds."""
    return int(((values >= least) & (values <= greatest)).sum())


def others(values: np.ndarray) -> list[tuple[float, float, float]]:
    """For each of SHARES: the share, the least value that keeps so many, and the greatest; of floats[N], N > 0."""
    low, high = np.quantile(values, [1 - share for share in SHARES]), np.quantile(values, SHARES)
    return list(zip(SHARES, low.tolist(), high.tolist(), strict=True))


def fields_of_reason(reason: str) -> tuple[str, ...]:
    """Signal fields that the filter of a reason looks at, as far as that does not depend on its options."""
    for name in FILTERS.names():
        try:
            module = FILTERS.load(name)
        except ValueError:  # it needs a package that is not installed
            continue
        if getattr(module, "REASON", name) == reason:
            return tuple(getattr(module, "READS", ()))
    return ()
