"""Parquet files of exported rows, with the features that `datasets` reads pictures by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_BYTES = 64 << 20
GROUP_ROWS = 1000
"""A row group is written when it holds so much; it is what is in memory."""

_TEXT = pa.string()
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", _TEXT)])
_TURN = pa.struct([("role", _TEXT), ("content", _TEXT)])
_ORIGIN = pa.struct([("url", _TEXT), ("sha256", _TEXT)])


def schema_of(signals: Mapping[str, Mapping[str, pa.DataType]], several: bool, features: bool) -> pa.Schema:
    """Columns of an export. Digests are hexadecimal text.

    Args:
        signals: their fields by name.
        several: a row has a list of pictures, `images`, in place of one, `image`.
        features: whether to say, for `datasets`, that these are pictures.
    """
    measured = pa.struct(
        [
            (name, pa.struct([(field, _TEXT if _is_digest(kind) else kind) for field, kind in fields.items()]))
            for name, fields in signals.items()
        ]
    )
    schema = pa.schema(
        [
            ("images", pa.list_(_PICTURE)) if several else ("image", _PICTURE),
            ("caption", _TEXT),
            ("text", _TEXT),
            ("messages", pa.list_(_TURN)),
            ("uid", _TEXT),
            ("source", _TEXT),
            ("task", _TEXT),
            ("key", _TEXT),
            ("licence", _TEXT),
            ("origin", pa.list_(_ORIGIN)),
            ("columns", _TEXT),
            ("signals", measured),
        ]
    )
    if not features:
        return schema
    import datasets

    found = datasets.Features.from_arrow_schema(schema)
    found["images" if several else "image"] = datasets.List(datasets.Image()) if several else datasets.Image()
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": found.to_dict()}})})


def _is_digest(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)


def write_tables(rows: Iterable[dict[str, Any]], folder: Path, schema: pa.Schema, file_bytes: int) -> int:
    """Write `folder`/train-00000-of-0000N.parquet, each closed when it is over `file_bytes`. Returns the rows."""
    several = "images" in schema.names
    paths: list[Path] = []
    writer: pq.ParquetWriter | None = None
    count = size = 0
    pending: list[dict[str, Any]] = []

    def flush() -> None:
        nonlocal writer, size
        if writer is None:
            paths.append(folder / f"train-{len(paths):05d}.parquet")
            writer = pq.ParquetWriter(paths[-1], schema, compression="zstd")
        writer.write_table(pa.Table.from_pylist(pending, schema=schema))
        pending.clear()
        size = 0
        if paths[-1].stat().st_size >= file_bytes:
            writer.close()
            writer = None

    try:
        for row in rows:
            pictures = [{"bytes": one["bytes"], "path": one["path"]} for one in row["pictures"]]
            content = {"images": pictures} if several else {"image": pictures[0] if pictures else None}
            origin = [{"url": one["url"], "sha256": one["sha256"]} for one in row["pictures"]]
            pending.append({**row, **content, "origin": origin})
            size += sum(len(one["bytes"]) for one in pictures)
            count += 1
            if len(pending) == GROUP_ROWS or size >= GROUP_BYTES:
                flush()
        if pending or not paths:
            flush()
    finally:
        if writer is not None:
            writer.close()
    for number, path in enumerate(paths):
        path.rename(folder / f"train-{number:05d}-of-{len(paths):05d}.parquet")
    return count
