"""The Arrow schema of every layer (design D2). Layers lie side by side: row i of one is row i of the next.

rows → raw → signals → decision (all rows of a shard, sorted by uid) and train (the kept rows only, same order).

A schema's version is in its metadata. A change of columns or of their meaning raises VERSION and is a line in
CHANGELOG.md; readers refuse another version.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = 1

UID = pa.binary(16)
SHA256 = pa.binary(32)

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))


def _schema(layer: str, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"janus_forge.layer": layer, "janus_forge.version": str(VERSION)})


ROWS = _schema(
    "rows",
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
    ],
)
"""What a source says: text and image references, no pixels. One shard is one source and one task."""

RAW = _schema(
    "raw",
    [
        pa.field("uid", UID, nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("licence", pa.string()),
        # Of the row: OK only if every image of it is.
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
                    ]
                )
            ),
            nullable=False,
        ),
    ],
)
"""Original bytes, text and provenance, one outcome per row."""

SIGNALS = _schema(
    "signals",
    [
        pa.field("uid", UID, nullable=False),
        pa.field("outcome", pa.string(), nullable=False),  # copied from raw; decoding can still turn ok to bad_image
        # Of the sample's first image; null for text rows and failed rows.
        pa.field("width", pa.int32()),  # upright, i.e. after EXIF orientation
        pa.field("height", pa.int32()),
        pa.field("format", pa.string()),  # Pillow's name: JPEG, PNG, WEBP ...
        pa.field("mode", pa.string()),
        pa.field("orientation", pa.int8()),  # EXIF tag, 1 if absent
        pa.field("frames", pa.int32()),
        pa.field("num_bytes", pa.int64()),
        pa.field("num_images", pa.int16(), nullable=False),
        pa.field("content_sha256", SHA256),  # over all images of the row, or over the text of a text row
        pa.field("phash", pa.uint64()),  # 64-bit DCT perceptual hash
        pa.field("language", pa.string()),  # ISO 639-1 of all text
        pa.field("language_score", pa.float32()),
        pa.field("caption_chars", pa.int32()),
        pa.field("caption_words", pa.int32()),
        pa.field("caption_score", pa.float32()),  # cosine of open_clip image and caption embeddings; null if not scored
    ],
)
"""Measured once, all kept. Thresholds live in `decision`."""

DECISION = _schema(
    "decision",
    [
        pa.field("uid", UID, nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),  # Drop; null where outcome is not ok
        pa.field("duplicate_of", UID),  # the winner, for the duplicate reasons
    ],
)
"""Keep, or drop for one closed-set reason."""

TRAIN = _schema(
    "train",
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
"""Ready to use (design D6). Task, source and role are those of the shard: see the snapshot."""

LAYERS: dict[str, pa.Schema] = {"rows": ROWS, "raw": RAW, "signals": SIGNALS, "decision": DECISION, "train": TRAIN}
"""Layer name to schema, in the order they are made."""


def check_layer(schema: pa.Schema, layer: str, where: str) -> None:
    """Raise ValueError with one clear line unless `schema` is that of `layer` at this VERSION."""
    expected = LAYERS[layer]
    metadata = schema.metadata or {}
    found = metadata.get(b"janus_forge.layer", b"?").decode(), metadata.get(b"janus_forge.version", b"?").decode()
    if found != (layer, str(VERSION)):
        raise ValueError(f"{where}: expected layer {layer} version {VERSION}, found {found[0]} version {found[1]}")
    if schema.names != expected.names or schema.types != expected.types:
        raise ValueError(f"{where}: columns differ from layer {layer} version {VERSION}: rebuild this shard")
