"""Rows that are not among the best share of their source, by any numeric signal.

The share is of all rows that have the signal, so rows that another filter drops do not let worse ones in. It is taken
within the rows of a source that are new in one snapshot, so a refresh changes no older decision. Ties are broken by
uid: the number that stays is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pydantic

from pipelines.filters import Mask, numbers
from pipelines.filters import Options as Base
from pipelines.shardio import uid_array
from pipelines.signals import field_type

REASON = "score_rank"


class Options(Base):
    """Which signal, and how many stay."""

    by: str
    """Signal field, `caption_score.cosine` for instance."""
    keep: float = pydantic.Field(gt=0, le=1)
    """Share of the rows to keep (SA-1B, PixelProse: 0.2 in the paper, section 3.2)."""
    best: Literal["highest", "lowest"] = "highest"


def reads(options: Options) -> tuple[str, ...]:
    """The field, if it is a number."""
    kind = field_type(options.by)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ValueError(f"by: {options.by} is no number but {kind}")
    return (options.by,)


def gate(groups: Iterable[tuple[pa.Table, Mask]], options: Options) -> list[Any] | None:
    """[value, uid] of the last row that is in; [] if none is, None if all are."""
    total, values, uids = 0, [], []
    for table, standing in groups:
        value = _values(table, options)
        total += int((~np.isnan(value)).sum())
        standing = standing & ~np.isnan(value)
        values.append(value[standing])
        uids.append(uid_array(table.column("uid"))[standing])
    places = int(options.keep * total)
    value, uid = (np.concatenate(parts) if parts else np.empty(0) for parts in (values, uids))
    if places >= len(value):
        return None
    if places == 0:
        return []
    last = np.lexsort((uid, -value))[places - 1]
    return [float(value[last]), uid[last].ljust(16, b"\0").hex()]


def drops(table: pa.Table, options: Options, gate: list[Any] | None) -> Mask:
    """Where the row comes after the last that is in."""
    value = _values(table, options)
    if gate is None:
        return np.zeros(len(value), dtype=bool)
    if not gate:
        return ~np.isnan(value)
    limit, uid = gate
    return (value < limit) | ((value == limit) & (uid_array(table.column("uid")) > np.bytes_(bytes.fromhex(uid))))


def _values(table: pa.Table, options: Options) -> np.ndarray:
    """The signal, turned so that the best is the highest."""
    value = numbers(table, options.by)
    return value if options.best == "highest" else -value
