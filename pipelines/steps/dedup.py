"""Dedup: rows whose content, or whose picture, another row of the same task already brings (design D1, D4).

What a row is compared by is a matter of what it says. A picture to generate, or one with a caption, is its picture.
A page, a conversation or a text is the whole sample: several conversations about one picture are all wanted, and so
are two pages that share their pictures and not their text.

One row per group stays: one with text before one without, then of the earliest first snapshot (so that a refresh takes
back no older row but one without text), then the largest picture, or the longest text of a whole sample, then the
smallest uid. The rule is a total order over rows, so the winners do not depend on sources, shards, workers or engine.

Near duplicates are decided as if rows were visited in that order, each kept unless a kept row lies within the Hamming
radius, or has an embedding as similar as the spec asks for, or, for whole samples of the same pictures or none, such a
text. Rows of one hash stay or go together, by the embedding of the preferred one. A row that is more than one of these
is called an exact duplicate, else a near one; it is one of the row that stays for its picture.

This file says what is compared and which row is preferred; `dedup_passes.py` how the rows of a large corpus meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import ledger
from pipelines.filters import Filter, Mask
from pipelines.shardio import uid_array
from pipelines.signals.minhash import PLACES
from pipelines.steps.changes import Superseded
from pipelines.steps.judge import fields_of, judge, standing
from pipelines.steps.near_embedding import rounded
from pipelines.steps.signal_table import signal_table
from schemas.digest import digest
from schemas.layers import signal_layer
from schemas.reasons import Drop, Outcome
from schemas.sample import Task
from schemas.spec import Dedup
from storage.store import Store

CANDIDATE = np.dtype(
    [
        ("content", "S32"),
        ("first_snapshot", "<i4"),
        ("wordless", "u1"),
        ("area", "<i8"),
        ("uid", "S16"),
        ("shard", "<u4"),
        ("row", "<u4"),
        ("hash", "<u8"),
        ("near", "u1"),  # what `hash` is of: rows of one hash stay or go together
    ]
)
REASONS = (Drop.DUPLICATE_EXACT, Drop.DUPLICATE_NEAR, Drop.DUPLICATE_TEXT, Drop.DUPLICATE_EMBEDDING)
"""The first for rows of one content, the others by what `near` says, or by what the row is like one that is kept."""
NOT, PICTURE, TEXT, EMBEDDING = 0, 1, 2, 3
"""Values of `near`: the row is compared by its content alone; by its perceptual hash too, and its embedding if it has
one; by its MinHash signature too, which, with its pictures, is what `hash` is a hash of; by its embedding too, where
perceptual hashes are not compared: `hash` is one of the embedding."""
SIGNATURE = np.dtype([("hash", "<u8"), ("pictures", "<u8"), ("signature", "<u2", (PLACES,))])
RANK = ("row", "shard", "uid", "area", "first_snapshot", "wordless")
"""Fields of the order of preference, least significant first, as np.lexsort wants them; area counts downwards."""


@dataclass(frozen=True)
class DedupWork:
    """One shard among those that are compared."""

    index: int
    """Its place in the order of all shards: the last tie-break."""
    paths: Mapping[str, str]
    """Of its layers."""
    task: Task
    first_snapshot: int
    filters: tuple[Filter, ...]
    gates: Mapping[str, Any]
    """What decides over its rows beside duplicates."""
    superseded: Superseded = ()
    """Rows that take no part."""


@dataclass(frozen=True)
class Duplicate:
    """A row that loses to one that is kept."""

    row: int
    reason: Drop
    winner: str
    """Uid of the row that stays, hex."""


FIELDS = ("image.num_images", "image.width", "image.height", "image.sha256", "phash.hash", "text.chars")
"""Signals that rows are compared by."""
SIGNATURES = "minhash.signature"
EMBEDDINGS = "clip_embedding.vector"
"""And these, where the spec has texts, or pictures by embedding, compared."""


def vector_type(width: int) -> np.dtype:
    """The embedding of a candidate, of so many components, as integers (near_embedding.py)."""
    return np.dtype([("uid", "S16"), ("hash", "<u8"), ("vector", "<i2", (width,))])


def embedding_width(corpus: Store, works: Sequence[DedupWork], dedup: Dedup) -> int:
    """Number of components of the embeddings of a task's rows; 0 if there are none, or they are not compared."""
    layer = signal_layer(EMBEDDINGS.partition(".")[0])
    path = next((work.paths[layer] for work in works if layer in work.paths), None)
    if dedup.embedding_cosine is None or path is None:
        return 0
    return int(ledger.open_input(corpus, path)[1].file.schema.field("vector").type.list_size)


def candidates(corpus: Store, work: DedupWork, dedup: Dedup, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a shard that pass its filters, the signatures of those whose texts are compared, and the embeddings of
    those that are compared by them.

    Pictures take part in the near comparison by exactly one picture that has a perceptual hash (or, where these are not
    compared, an embedding), whole samples by a text that has a signature.

    Args:
        width: of the embeddings; 0 for none.

    Returns:
        CANDIDATE[N]; SIGNATURE[T]; vector_type(width)[E].

    Raises ValueError if the embeddings of the shard are of another width.
    """
    fields = {*FIELDS, SIGNATURES, *([EMBEDDINGS] if width else []), *fields_of(work.filters)}
    signals = signal_table(corpus, work.paths, fields)
    messages = ledger.open_input(corpus, work.paths["rows"])[1].table(["messages"]).column("messages")
    ok = np.array(signals.column("image.outcome").to_pylist(), dtype=object) == Outcome.OK.value
    ok[[row for row, _ in work.superseded]] = False
    rows = np.flatnonzero(ok & _standing(corpus, work, signals))
    picture = by_picture(messages, work.task)[rows]
    signals = signals.take(pa.array(rows))
    found = np.zeros(len(rows), dtype=CANDIDATE)
    uids = uid_array(signals.column("uid"))
    pictures = np.array(signals.column("image.sha256").to_pylist(), dtype="S32")
    found["content"] = np.where(picture, pictures, uids.astype("S32"))
    found["first_snapshot"] = work.first_snapshot
    found["wordless"] = signals.column("text.chars").to_numpy() == 0
    across, down = (signals.column(f"image.{side}").fill_null(0).to_numpy() for side in ("width", "height"))
    area = across.astype(np.int64) * down
    found["area"] = np.where(picture, area, signals.column("text.chars").to_numpy())
    found["uid"] = uids
    found["shard"] = work.index
    found["row"] = rows
    single = picture & (signals.column("image.num_images").to_numpy() == 1)
    if dedup.near_radius is not None:
        near = single & signals.column("phash.hash").is_valid().to_numpy()
        found["hash"][near] = signals.column("phash.hash").fill_null(0).to_numpy()[near]
        found["near"][near] = PICTURE
        single = near
    vectors = np.empty(0, vector_type(width))
    if width:
        vectors, there = _vectors(signals.column(EMBEDDINGS), single, width, work.paths["rows"])
        if dedup.near_radius is None:
            found["hash"][there] = hashes_of(vectors["vector"])
            found["near"][there] = EMBEDDING
        vectors["uid"], vectors["hash"] = found["uid"][there], found["hash"][there]
    signed = ~picture & signals.column(SIGNATURES).is_valid().to_numpy()
    if dedup.text_jaccard is None or not signed.any():
        return found, np.empty(0, SIGNATURE), vectors
    signatures = signatures_of(signals.column(SIGNATURES).filter(signed).to_pylist(), pictures[signed])
    found["hash"][signed] = signatures["hash"]
    found["near"][signed] = TEXT
    return found, signatures, vectors


def _vectors(column: pa.ChunkedArray, of: np.ndarray, width: int, shard: str) -> tuple[np.ndarray, np.ndarray]:
    """vector_type(width)[E] of the rows `of` (bool[N]) that have an embedding, without uid and hash, and which they
    are: bool[N]."""
    there = of & column.is_valid().to_numpy()
    own = column.filter(pa.array(there)).combine_chunks()
    numbers = own.flatten().to_numpy(zero_copy_only=False)
    if len(numbers) != len(own) * width:
        raise ValueError(f"{shard}: its embeddings are not of {width} numbers as those of other shards; build again")
    exact, usable = rounded(numbers.reshape(-1, width))
    there[there] = usable
    found = np.zeros(len(exact), vector_type(width))
    found["vector"] = exact
    return found, there


def _standing(corpus: Store, work: DedupWork, signals: pa.Table) -> Mask:
    """Which rows pass the filters; in a corpus that is decided upon (pipelines/duplicates.py), passed them. bool[N]."""
    if "decision" not in work.paths:
        return standing(judge(signals, work.filters, work.gates))
    reason = ledger.open_input(corpus, work.paths["decision"])[1].table(["reason"]).column("reason")
    return np.array([said is None or said in REASONS for said in reason.to_pylist()], dtype=bool)


def signatures_of(values: Sequence[bytes], pictures: np.ndarray) -> np.ndarray:
    """SIGNATURE[T] of rows by the field of the signal `minhash` and the digest (S32) of their pictures."""
    found = np.zeros(len(values), SIGNATURE)
    found["signature"] = np.frombuffer(b"".join(values), "<u2").reshape(-1, PLACES)
    found["pictures"] = np.ascontiguousarray(pictures).view("<u8")[::4]
    found["hash"] = hashes_of(found)
    return found


def hashes_of(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of the bytes of each row: uint64[N]."""
    digests = (blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(b"".join(digests), "<u8")


def by_picture(messages: pa.ChunkedArray, task: Task) -> np.ndarray:
    """Which rows are compared by their pictures: those that generate one, and those of a single caption. bool[N]."""
    if task == "generation":
        return np.ones(len(messages), dtype=bool)
    lists = messages.combine_chunks()
    turns = pc.list_value_length(lists).to_numpy()
    caption = pc.equal(pc.struct_field(pc.list_flatten(lists), "role"), "caption").to_numpy(zero_copy_only=False)
    single = turns == 1
    found = single.copy()
    found[single] = caption[(np.cumsum(turns) - turns)[single]]
    return found


def duplicates_digest(duplicates: Sequence[Duplicate]) -> str:
    """What the decisions of a shard depend on, of its duplicates by row."""
    return digest([[item.row, item.reason.value, item.winner] for item in duplicates])


def preference(rows: np.ndarray, *first: np.ndarray) -> np.ndarray:
    """Indices that sort CANDIDATE rows by `first`, then by the order of preference (best first)."""
    keys = [-rows["area"] if name == "area" else rows[name] for name in RANK]
    return np.lexsort((*keys, *first))


def rank(rows: np.ndarray) -> np.ndarray:
    """The order of preference in 64 bits, ties aside: uint64[N]."""
    wordless, snapshot = rows["wordless"].astype(np.uint64), rows["first_snapshot"].clip(0, 2**15 - 1)
    longest_first = (2**32 - 1 - rows["area"].clip(0, 2**32 - 1)).astype(np.uint64)
    head = (wordless << np.uint64(63)) | (snapshot.astype(np.uint64) << np.uint64(48))
    start = np.frombuffer(np.ascontiguousarray(rows["uid"]).tobytes(), ">u8")[::2].astype(np.uint64)
    return head | (longest_first << np.uint64(16)) | (start >> np.uint64(48))


def leaders(rows: np.ndarray, field: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group CANDIDATE rows by `field`.

    Returns:
        the rows, sorted by `field` and then by preference: CANDIDATE[N]; the index of the best row of each one's
        group: int64[N]; which rows are that themselves: bool[N].
    """
    rows = rows[preference(rows, rows[field])]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = rows[field][1:] != rows[field][:-1]
    return rows, np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0)), first
