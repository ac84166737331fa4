"""Filters: rules over signals that drop rows, for one reason each; one file each (design D13).

A filter is a module with

- `Options`: its options in a spec's `filters = { <name> = {...} }`, a subclass of `schemas.plugins.Options`;
- `READS`: the signal fields it looks at, as `<signal>.<field>`; or `reads(options)`, where the options say which;
- `drops(table, options)`: which rows of a shard it drops, bool[N], from a table that has those columns;
- `bounds(options)`, if its thresholds are not told by the names of its options: signal field to the least and greatest
  value that it leaves, for people to see (pipelines/looking/thresholds.py);
- `REASON`, if it is not the filter's name: what a dropped row is counted under;
- `VERSION`, 1 if absent: raised when the same signals come to give other answers, or an option another default.

A row is judged only by what it has: where a signal is null, the row is not dropped. `numbers` gives NaN there, which no
comparison is true of.

A filter that compares the rows of a source with each other has a `gate(groups, options)` as well. It is given, shard
by shard, the rows of one source and first snapshot whose images loaded, and which of them the other filters leave
(bool[N]). What it returns is handed to `drops(table, options, gate)`: a JSON value, part of the decisions' keys.

To add a filter, add a file. Other packages name theirs as entry points of the group `janus_forge.filters`
(schemas/plugins.py). A decision depends on the filters and options that a spec sets, not on those that exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.plugins import Options, PluginFolder, options_of
from schemas.reasons import FIXED

__all__ = ["Filter", "Mask", "Options", "load_filter", "numbers", "reasons"]

FILTERS = PluginFolder(__name__, "filter")

Mask = npt.NDArray[np.bool_]
Gate = Any
"""What a filter found out by comparing rows: a JSON value."""


@dataclass(frozen=True)
class Filter:
    """A filter with its options."""

    name: str
    options: Options

    @property
    def module(self) -> ModuleType:
        """Its file."""
        return FILTERS.load(self.name)

    @property
    def reason(self) -> str:
        """What a row that it drops is counted under."""
        return str(getattr(self.module, "REASON", self.name))

    @property
    def reads(self) -> tuple[str, ...]:
        """Signal fields it looks at. Raises ValueError with one line where the options name none."""
        if hasattr(self.module, "reads"):
            return tuple(self.module.reads(self.options))
        return tuple(self.module.READS)

    @property
    def key(self) -> list[Any]:
        """What its answers depend on, besides the signals."""
        options = self.options.model_dump(mode="json", exclude_defaults=True)
        return [self.name, getattr(self.module, "VERSION", 1), options]

    @property
    def gate(self) -> Callable[[Iterable[tuple[pa.Table, Mask]]], Gate] | None:
        """How it compares the rows of a source, None if it judges each by itself."""
        return partial(self.module.gate, options=self.options) if hasattr(self.module, "gate") else None

    def drops(self, table: pa.Table, gate: Gate = None) -> Mask:
        """Which rows of `table` it drops."""
        return self.module.drops(table, self.options, *(() if self.gate is None else (gate,)))  # type: ignore[no-any-return]


def load_filter(name: str, settings: Mapping[str, Any], where: str = "filters") -> Filter:
    """The filter `name` with its options from a spec. Raises ValueError with one line."""
    try:
        module = FILTERS.load(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    for attribute in ("Options", "drops"):
        if not hasattr(module, attribute):
            raise ValueError(f"filter {name} ({module.__name__}): has no {attribute} (pipelines/filters/__init__.py)")
    if not (hasattr(module, "READS") or hasattr(module, "reads")):
        raise ValueError(
            f"filter {name} ({module.__name__}): has neither READS nor reads (pipelines/filters/__init__.py)"
        )
    found = Filter(name, options_of(module.Options, settings, f"{where}.{name}"))
    if not re.fullmatch(r"[a-z][a-z0-9_]*", found.reason) or found.reason in FIXED:
        raise ValueError(
            f"filter {name} ({module.__name__}): REASON {found.reason!r} is taken, or not of a-z, 0-9 and _"
        )
    return found


def reasons() -> frozenset[str]:
    """The reasons of all filters there are."""
    return frozenset(str(getattr(FILTERS.load(name), "REASON", name)) for name in FILTERS.names())


def numbers(table: pa.Table, field: str) -> npt.NDArray[np.floating[Any]]:
    """A numeric field as floats[N], NaN where it is null.

    A float32 stays one, so that a threshold of 0.28 is compared with a score of 0.28 as both are stored.
    """
    column = table.column(field)
    return column.to_numpy().astype(np.float32 if pa.types.is_float32(column.type) else np.float64)
