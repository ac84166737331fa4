"""Rows that are held out of training, by uid: the same ones in every run, on every machine, in every corpus."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from janus.data.config import DataOrder
from janus.data.order import U64, key64, unit_interval

Split = Callable[[U64], npt.NDArray[np.bool_]]
"""Which rows a pool has, by the first 8 bytes of their uids: uint64[N] to bool[N]."""


def is_held_out(identity: U64, share: float) -> npt.NDArray[np.bool_]:
    """bool[N]: whether each row is held out, a function of its uid and the share alone.

    A larger share holds out the rows of a smaller one, and others.
    """
    return unit_interval(key64("held out"), identity, np.zeros(len(identity), np.uint64)) < share


def split_of(order: DataOrder, *, held_out: bool) -> Split | None:
    """The rows that train, or those that are held out; None for all rows."""
    if not order.hold_out:
        return None
    return lambda identity: is_held_out(identity, order.hold_out) == held_out
