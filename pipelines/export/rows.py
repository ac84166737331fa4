"""The kept rows of a snapshot, with the original pictures, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from janus.images import ImageProblem, inspect
from pipelines import ledger
from pipelines.recaption.said import said_instead
from pipelines.shardio import ShardError
from schemas.layers import SIGNALS
from schemas.manifest import Snapshot, SnapshotShard
from schemas.reasons import Drop, Outcome
from storage.store import Store

SUFFIXES = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
"""Pillow's name of a format to the end of a file name, where that is not the name itself."""


def signal_fields(corpus: Store, snapshot: Snapshot) -> dict[str, dict[str, pa.DataType]]:
    """Signals that the shards of a snapshot have, each with its fields. Raises ValueError where shards disagree."""
    found: dict[str, dict[str, pa.DataType]] = {}
    for shard in snapshot.shards:
        for layer in sorted(layer for layer in shard.upstream if layer.startswith(SIGNALS)):
            schema = ledger.open_input(corpus, shard.upstream[layer])[1].file.schema
            fields = {field.name: field.type for field in schema if field.name != "uid"}
            if found.setdefault(layer.removeprefix(SIGNALS), fields) != fields:
                raise ValueError(f"{shard.upstream[layer]}: other fields than in the other shards; build again")
    return dict(sorted(found.items()))


def several_images(corpus: Store, snapshot: Snapshot) -> bool:
    """Whether any row has more than one picture."""
    most = 0
    for shard in snapshot.shards:
        counts = ledger.open_input(corpus, shard.upstream[f"{SIGNALS}image"])[1].table(["num_images"])["num_images"]
        most = max(most, pc.max(counts).as_py() or 0)
    return most > 1


def exported_rows(corpus: Store, shard: SnapshotShard, signals: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a train shard, in its order.

    Each has `uid`, `source`, `task`, `key`, `licence`, `columns` (JSON), `caption`, `text` and `messages` (the ones it
    has, else None), `pictures` (bytes, path, url, sha256 of each) and `signals`.

    Raises ShardError where the layers do not agree.
    """
    kept = ledger.open_input(corpus, shard.path)[1].table(["uid"])["uid"].to_pylist()
    decided = ledger.open_input(corpus, shard.upstream["decision"])[1].table(["outcome", "reason"]).to_pylist()
    values = {
        name: _values(corpus, shard.upstream[f"{SIGNALS}{name}"]) if f"{SIGNALS}{name}" in shard.upstream else None
        for name in signals
    }
    said = said_instead(corpus, shard.upstream)
    at = row = 0
    for batch in ledger.open_input(corpus, shard.upstream["raw"])[1].batches():
        for index in range(batch.num_rows):  # one row's pictures at a time
            measured = {name: None if rows is None else next(rows) for name, rows in values.items()}
            decision, instead = decided[row], None if said is None else said[row]
            row += 1
            uid = batch.column("uid")[index].as_py()
            if decision["outcome"] != Outcome.OK or (decision["reason"] or Drop.KEPT) != Drop.KEPT:
                continue
            if at == len(kept) or uid != kept[at]:
                continue  # too long, or not to be tokenized
            at += 1
            raw = batch.slice(index, 1).to_pylist()[0]
            raw |= {} if instead is None else {"messages": instead.as_py()}
            yield {**_exported(raw, shard), "signals": measured}
    if at != len(kept):
        raise ShardError(f"{shard.path}: holds rows that {shard.upstream['raw']} lacks; run python -m pipelines.verify")


def _exported(raw: dict[str, Any], shard: SnapshotShard) -> dict[str, Any]:
    texts = {message["role"]: message["text"] for message in raw["messages"]}
    chat = [{"role": message["role"], "content": message["text"]} for message in raw["messages"]]
    columns = {name: json.loads(value) for name, value in raw["columns"] or ()}
    return {
        "uid": raw["uid"].hex(),
        "source": shard.source,
        "task": shard.task,
        "key": raw["key"],
        "licence": raw["licence"],
        "columns": json.dumps(columns, sort_keys=True) if columns else None,
        "caption": texts.get("caption"),
        "text": texts.get("document"),
        "messages": chat if texts.keys() & {"user", "assistant"} else None,
        "pictures": [
            {
                "bytes": image["bytes"],
                "path": f"{image['sha256'].hex()}.{_suffix(image['bytes'])}",
                "url": image["url"],
                "sha256": image["sha256"].hex(),
            }
            for image in raw["images"]
        ],
    }


def _suffix(data: bytes) -> str:
    try:
        format = inspect(data).format
    except ImageProblem:
        return "bin"
    return SUFFIXES.get(format, format.lower())


def _values(corpus: Store, path: str) -> Iterator[dict[str, Any]]:
    for batch in ledger.open_input(corpus, path)[1].batches():
        for row in batch.to_pylist():
            del row["uid"]
            yield {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
