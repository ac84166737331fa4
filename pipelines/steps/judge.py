"""Filters over the signals of a whole shard at once. One reason per dropped row: that of the first that drops it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.filters import Filter, Mask
from pipelines.steps.signal_table import CONTAMINATED, NOT_RECAPTIONED
from schemas.reasons import AS_SOURCE, RECAPTIONED, Drop, Outcome

CLEAN = "clean"
"""Name of the number of rows that hold nothing of an evaluation set, in the counts of the layer."""


def fields_of(filters: Iterable[Filter]) -> list[str]:
    """The signal fields that filters read."""
    return sorted({field for filter in filters for field in filter.reads})


def loaded(signals: pa.Table) -> pa.Table:
    """The rows whose images loaded, of a table of signals."""
    return signals.filter(pc.equal(signals.column("image.outcome"), Outcome.OK.value))


def judge(signals: pa.Table, filters: Sequence[Filter], gates: Mapping[str, Any]) -> np.ndarray:
    """Reason (str) per row, None where nothing drops it or its images did not load: object[N].

    That a row holds something of an evaluation set comes first, then that a model wrote no caption for it, then filters
    in their order, those that compare rows after all others.

    Args:
        signals: columns `image.outcome` and those that the filters read (pipelines/steps/signal_table.py).
        filters: which to try.
        gates: what those that compare rows found out, by their names.
    """
    reasons = np.full(signals.num_rows, None, dtype=object)
    undecided = np.array(signals.column("image.outcome").to_pylist(), dtype=object) == Outcome.OK.value
    if CONTAMINATED in signals.column_names:
        contaminated = undecided & signals.column(CONTAMINATED).is_valid().to_numpy()
        reasons[contaminated] = Drop.CONTAMINATED.value
        undecided &= ~contaminated
    if NOT_RECAPTIONED in signals.column_names:
        why = np.array(signals.column(NOT_RECAPTIONED).to_pylist(), dtype=object)
        failed = undecided & signals.column(NOT_RECAPTIONED).is_valid().to_numpy()
        reasons[failed] = why[failed]
        undecided &= ~failed
    for filter in sorted(filters, key=lambda filter: filter.gate is not None):
        dropped = undecided & filter.drops(signals, gates.get(filter.name))
        reasons[dropped] = filter.reason
        undecided &= ~dropped
    return reasons


def standing(reasons: np.ndarray) -> Mask:
    """Where `judge` gave no reason: bool[N]."""
    return np.array([reason is None for reason in reasons], dtype=bool)


def count_recaptions(table: pa.Table) -> Counter[str]:
    """Rows of a recaption layer by what became of them."""
    counts: Counter[str] = Counter()
    for reason, used in zip(table.column("reason").to_pylist(), table.column("used").to_pylist(), strict=True):
        counts[reason or (RECAPTIONED if used else AS_SOURCE)] += 1
    return counts


def count_contaminated(table: pa.Table) -> Counter[str]:
    """Rows of a contamination layer that hold something of an evaluation set, and others."""
    clean = table.column("item").null_count
    return Counter({Drop.CONTAMINATED.value: table.num_rows - clean, CLEAN: clean})
