"""The Arrow schema of every layer (design D2). Layers lie side by side: row i of one is row i of the next.

rows → raw → recaption → signals → contamination → decision (all rows of a shard, sorted by uid) and train (the kept
rows only, in the same order).

Each layer has a version of its own, in its files and in their keys (design D14). A change of columns or of their
meaning raises that one and is a line in CHANGELOG.md; readers refuse another version. The signals are a layer each,
`signals/<name>`, whose columns and version are those of the module that measures it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import pyarrow as pa

UID = pa.binary(16)
SHA256 = pa.binary(32)

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))

COLUMNS = pa.field("columns", pa.map_(pa.string(), pa.string()))
"""Columns of the source that its spec keeps (`columns`), each value as JSON; null where it keeps none."""


def _schema(layer: str, version: int, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"janus_forge.layer": layer, "janus_forge.version": str(version)})


ROWS = _schema(
    "rows",
    2,
    [
        pa.field("uid", UID, nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field(
            "images",
            pa.list_(
                pa.struct(
                    [
                        ("url", pa.string()),
                        ("path", pa.string()),
                        ("root", pa.string()),
                        ("offset", pa.int64()),
                        ("size", pa.int64()),
                        ("column", pa.string()),
                        ("row", pa.int64()),
                        ("sha256", pa.string()),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("licence", pa.string()),
        COLUMNS,
        pa.field("outcome", pa.string(), nullable=False),  # of reading the row: ok, or why it could not be read
    ],
)
"""What a source says: text and image references, no pixels. One shard is one source and one task."""

RAW = _schema(
    "raw",
    2,
    [
        pa.field("uid", UID, nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("licence", pa.string()),
        COLUMNS,
        # Of the row: OK only if every image in `images` is.
        pa.field("outcome", pa.string(), nullable=False),
        pa.field(
            "images",
            pa.list_(
                pa.struct(
                    [
                        ("bytes", pa.large_binary()),  # as fetched, never re-encoded; null unless outcome is ok
                        ("outcome", pa.string()),
                        ("sha256", SHA256),
                        ("url", pa.string()),
                        ("final_url", pa.string()),
                        ("http_status", pa.int16()),
                        ("detail", pa.string()),  # what reserved it, or why its host was given up
                    ]
                )
            ),
            nullable=False,
        ),
        # Images that a page went on without (`missing_image = "drop_image"`); their marks are out of the messages.
        pa.field("lost_images", pa.list_(pa.struct([("url", pa.string()), ("outcome", pa.string())])), nullable=False),
    ],
)
"""Original bytes, text and provenance, one outcome per row."""

RECAPTION = _schema(
    "recaption",
    1,
    [
        pa.field("uid", UID, nullable=False),
        pa.field("caption", pa.string()),  # what a model wrote, whether it is used or not
        pa.field("reason", pa.string()),  # why there is none, of a row that was to take one (a Drop)
        pa.field("used", pa.bool_(), nullable=False),  # whether `messages` have it
        pa.field("source_score", pa.float32()),  # of the source's caption and of this one, if the better is taken
        pa.field("score", pa.float32()),
        pa.field("messages", MESSAGES, nullable=False),  # these stand in for those of raw
    ],
)
"""Captions that a model wrote; only for sources whose spec asks for them. What the source says stays in raw."""

CONTAMINATION = _schema(
    "contamination",
    1,
    [
        pa.field("uid", UID, nullable=False),
        pa.field(
            "item", pa.string()
        ),  # of an evaluation set that the row holds: set/file:row, or set/file of a picture
        pa.field("by", pa.string()),  # what they agree in: sha256, phash or text
    ],
)
"""Which rows hold something of an evaluation set; only in corpora whose spec names such sets."""

DECISION = _schema(
    "decision",
    1,
    [
        pa.field("uid", UID, nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # of a filter or a Drop; null where outcome is not ok
        pa.field("duplicate_of", UID),  # the winner, for the duplicate reasons
    ],
)
"""Keep, or drop for one closed-set reason."""

TRAIN = _schema(
    "train",
    1,
    [
        pa.field("uid", UID, nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),  # image placeholders expanded, BOS first
        pa.field("loss_mask", pa.list_(pa.bool_()), nullable=False),  # True: this token is predicted (a label)
        pa.field("short_ids", pa.list_(pa.int32())),  # generation: the whole row again with the first-sentence caption
        pa.field("codes", pa.list_(pa.uint16())),  # generation: VQ codes of the images, row-major, in order
        pa.field("pixels", pa.list_(pa.binary())),  # understanding: one JPEG, or raw uint8 H*W*3, per image
        pa.field("length", pa.int32(), nullable=False),  # len(input_ids)
        pa.field("short_length", pa.int32(), nullable=False),  # len(short_ids), or length where there is none
    ],
)
"""Ready to use (design D6). Task, source and group are those of the shard: see the snapshot."""

LAYERS: dict[str, pa.Schema] = {
    "rows": ROWS,
    "raw": RAW,
    "recaption": RECAPTION,
    "contamination": CONTAMINATION,
    "decision": DECISION,
    "train": TRAIN,
}
"""Layer name to schema, in the order they are made; the signals come after recaption."""

SIGNALS = "signals/"
"""What the name of a signal's layer begins with."""


def says(layers: Container[str]) -> str:
    """The layer, of those that a shard has, that holds what its rows say: their messages."""
    return "recaption" if "recaption" in layers else "raw"


def signal_layer(name: str) -> str:
    """Name of the layer of a signal."""
    return f"{SIGNALS}{name}"


def signal_schema(name: str, version: int, fields: Mapping[str, pa.DataType]) -> pa.Schema:
    """Schema of a signal's layer: the row's uid and the signal's own fields, null where a row was not measured."""
    return _schema(
        signal_layer(name),
        version,
        [pa.field("uid", UID, nullable=False), *map(pa.field, fields.keys(), fields.values())],
    )


def layer_of(schema: pa.Schema) -> tuple[str, str]:
    """Layer and version that a schema says it is of; "?" where it says nothing."""
    metadata = schema.metadata or {}
    return metadata.get(b"janus_forge.layer", b"?").decode(), metadata.get(b"janus_forge.version", b"?").decode()


def check_layer(schema: pa.Schema, layer: str, where: str) -> None:
    """Raise ValueError with one clear line unless `schema` is that of `layer` at its version.

    Of a signal, any version and any fields are accepted: shards of older snapshots stay readable, also where the module
    that measured them is gone. Which version a shard has is decided by its key.
    """
    try:
        (found, version), names = layer_of(schema), schema.names
    except UnicodeDecodeError:
        raise ValueError(f"{where}: names in its schema are not UTF-8: rebuild this shard") from None
    if layer.startswith(SIGNALS):
        if found != layer or names[:1] != ["uid"] or schema.types[0] != UID:
            raise ValueError(f"{where}: expected layer {layer}, found {found} version {version}")
        return
    expected = LAYERS[layer]
    if (found, version) != layer_of(expected):
        raise ValueError(
            f"{where}: expected layer {layer} version {layer_of(expected)[1]}, found {found} version {version}"
        )
    if names != expected.names or schema.types != expected.types:
        raise ValueError(f"{where}: columns differ from layer {layer} version {version}: rebuild this shard")
