"""The signals of a shard side by side, as filters and duplicates read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.shardio import ShardError
from pipelines.signals import field_type, split_field
from schemas.layers import SIGNALS
from storage.store import Store

CONTAMINATED = "contamination.item"
"""Column of a table of signals that says which item of an evaluation set a row holds; absent if no sets are named."""

NOT_RECAPTIONED = "recaption.reason"
"""Column that says why a row which was to take a model's caption has none; absent if none is asked for."""


def signal_table(corpus: Store, paths: Mapping[str, str], fields: Iterable[str]) -> pa.Table:
    """Columns `uid`, `image.outcome`, CONTAMINATED, NOT_RECAPTIONED and the signal fields asked for, of a shard's rows.

    Args:
        paths: layer to the path of the shard there; layers that are no signals are left alone.
        fields: as `<signal>.<field>`, or `<signal>.<field>.<key>` of a map. A signal that was not measured is null,
            and so is a key that a row does not have.

    Raises ShardError.
    """
    wanted: dict[str, dict[str, None]] = {"image": {"image.outcome": None}}
    for field in fields:
        wanted.setdefault(split_field(field)[0], {})[field] = None
    found: dict[str, pa.ChunkedArray] = {}

    def add(path: str, names: Mapping[str, str]) -> None:
        """Columns of the shard at `path`, by their names in the table and there."""
        table = ledger.open_input(corpus, path)[1].table(["uid", *dict.fromkeys(names.values())])
        if not found.setdefault("uid", table.column("uid")).equals(table.column("uid")):
            raise ShardError(f"{path}: its rows are not those of the other layers; delete it and build again")
        for name, column in names.items():
            _, _, key = split_field(name)
            values = table.column(column)
            found[name] = pc.map_lookup(values, pa.scalar(key), "first") if key else values

    for signal, names in wanted.items():
        path = paths.get(f"{SIGNALS}{signal}")
        if path is None:
            for field in names:
                found[field] = pa.chunked_array([pa.nulls(len(found["uid"]), field_type(field))])
        else:
            add(path, {name: split_field(name)[1] for name in names})
    if (path := paths.get("contamination")) is not None:
        add(path, {CONTAMINATED: "item"})
    if (path := paths.get("recaption")) is not None:
        add(path, {NOT_RECAPTIONED: "reason"})
    return pa.table(found)
