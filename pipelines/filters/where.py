"""Rows for which a condition on their signals does not hold, such as "aesthetic.score >= 5 and image.width >= 512".

The language is that of a source's `where` (pipelines/reading/where.py), over signal fields in place of columns. A
condition that hangs on a signal that a row does not have drops it not: `is not null` asks for the signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
from pyarrow import acero

from pipelines.filters import Mask
from pipelines.filters import Options as Base
from pipelines.reading.where import Column, Node, parse_where
from pipelines.signals import field_type

REASON = "condition"
"""Not "where", which is what a source's own condition counts rows under that it does not take."""


class Options(Base):
    """Which rows."""

    keep: str
    """The condition. Rows for which it is false are dropped."""

    @pydantic.field_validator("keep")
    @classmethod
    def _parses(cls, keep: str) -> str:
        parse_where(keep, "condition")
        return keep


def reads(options: Options) -> list[str]:
    """The fields it names. Raises ValueError for a comparison of what cannot be compared."""
    condition = parse_where(options.keep, "condition")
    typed(condition)
    return condition.columns()


def drops(table: pa.Table, options: Options) -> Mask:
    """Where the condition is false; not where a null leaves it open."""
    return ~holds(table, typed(parse_where(options.keep, "condition"))).fill_null(True).to_numpy().astype(np.bool_)


def holds(table: pa.Table, condition: Node) -> pa.ChunkedArray:
    """Whether a typed condition holds for each row of a table of signals; null where a null leaves it open. bool[N]."""
    steps = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(table)),
        acero.Declaration("project", acero.ProjectNodeOptions([condition.expression()], ["holds"])),
    ]
    return acero.Declaration.from_sequence(steps).to_table(use_threads=False).column("holds")


KindOf = Callable[[str], pa.DataType]
"""Type of a column. Raises ValueError with one line if there is none of that name."""


def typed(node: Node, kind_of: KindOf = field_type) -> Node:
    """`node` over the columns of a table of signals, with each value in the type of the field it is compared with: a
    float32 of 0.28 is then 0.28. Raises ValueError for a comparison of what cannot be compared."""
    kinds = [kind_of(part.name) for part in node.parts if isinstance(part, Column)]
    return Node(node.operator, tuple(_part(part, kinds, kind_of) for part in node.parts))


def _part(part: Any, kinds: list[pa.DataType], kind_of: KindOf) -> Any:
    if isinstance(part, Node):
        return typed(part, kind_of)
    if isinstance(part, Column):
        if len({_class(kind) for kind in kinds}) > 1:
            raise ValueError(f"{part.name} is {kind_of(part.name)} and is compared with {kinds[-1]}")
        return pc.field(part.name)
    (kind,) = kinds
    if _class(kind) != _class(pa.scalar(part).type):
        raise ValueError(f"a field of type {kind} is compared with {part!r}")
    if pa.types.is_float32(kind) or (pa.types.is_uint64(kind) and isinstance(part, int) and part >= 0):
        return pc.scalar(pa.scalar(part, kind))
    return pc.scalar(part)


def _class(kind: pa.DataType) -> str:
    """What compares with each other."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return "number" if number else str(kind)
