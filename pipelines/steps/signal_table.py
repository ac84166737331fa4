"""The signals of a shard side by side, as filters and duplicates read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from pipelines import ledger
from pipelines.shardio import ShardError
from pipelines.signals import field_type
from schemas.layers import SIGNALS
from storage.store import Store

CONTAMINATED = "contamination.item"
"""Column of a table of signals that says which item of an evaluation set a row holds; absent if no sets are named."""


def signal_table(corpus: Store, paths: Mapping[str, str], fields: Iterable[str]) -> pa.Table:
    """Columns `uid`, `image.outcome`, the signal fields asked for and CONTAMINATED, of every row of a shard.

    Args:
        paths: layer to the path of the shard there; layers that are no signals are left alone.
        fields: as `<signal>.<field>`. A signal that was not measured is null.

    Raises ShardError.
    """
    wanted: dict[str, list[str]] = {"image": ["outcome"]}
    for field in fields:
        signal, _, column = field.partition(".")
        columns = wanted.setdefault(signal, [])
        if column not in columns:
            columns.append(column)
    found: dict[str, pa.ChunkedArray] = {}

    def add(path: str, names: Mapping[str, str]) -> None:
        """Columns of the shard at `path`, by their names there and in the table."""
        table = ledger.open_input(corpus, path)[1].table(["uid", *names])
        if not found.setdefault("uid", table.column("uid")).equals(table.column("uid")):
            raise ShardError(f"{path}: its rows are not those of the other layers; delete it and build again")
        found.update({new: table.column(name) for name, new in names.items()})

    for signal, columns in wanted.items():
        path = paths.get(f"{SIGNALS}{signal}")
        if path is None:
            for field in (f"{signal}.{name}" for name in columns):
                found[field] = pa.chunked_array([pa.nulls(len(found["uid"]), field_type(field))])
        else:
            add(path, {name: f"{signal}.{name}" for name in columns})
    if (path := paths.get("contamination")) is not None:
        add(path, {"item": CONTAMINATED})
    return pa.table(found)
