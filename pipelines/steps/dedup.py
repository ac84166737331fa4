"""Dedup: rows whose content, or whose picture, another row of the same task already brings (design D1, D4).

What a row is compared by is a matter of what it says. A picture to generate, or one with a caption, is its picture.
A page, a conversation or a text is the whole sample: several conversations about one picture are all wanted, and so
are two pages that share their pictures and not their text.

One row per group stays: one with text before one without, then of the earliest first snapshot (so that a refresh takes
back no older row but one without text), then the largest picture, or the longest text of a whole sample, then the
smallest uid. The rule is a total order over rows, so the winners do not depend on sources, shards, workers or engine.

Near duplicates are decided as if rows were visited in that order, each kept unless a kept row lies within the Hamming
radius, or, for whole samples of the same pictures or none, has a text as similar as the spec asks for. A row that is
both is called an exact duplicate; it is one of the row that stays for its picture.

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
from pipelines.steps.signal_table import signal_table
from schemas.digest import digest
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
REASONS = (Drop.DUPLICATE_EXACT, Drop.DUPLICATE_NEAR, Drop.DUPLICATE_TEXT)
"""The first for rows of one content, the others by what `near` says."""
NOT, PICTURE, TEXT = 0, 1, 2
"""Values of `near`: the row is compared by its content alone; by its perceptual hash too; by its MinHash signature too,
which, with its pictures, is what `hash` is a hash of."""
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
"""And this one, where the spec has texts compared."""


def candidates(corpus: Store, work: DedupWork, dedup: Dedup) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a shard that pass its filters, and the signatures of those whose texts are compared.

    Pictures take part in the near comparison by exactly one picture that has a perceptual hash, whole samples by a text
    that has a signature.

    Returns:
        CANDIDATE[N]; SIGNATURE[T].
    """
    signals = signal_table(corpus, work.paths, {*FIELDS, SIGNATURES, *fields_of(work.filters)})
    messages = ledger.open_input(corpus, work.paths["rows"])[1].table(["messages"]).column("messages")
    ok = np.array(signals.column("image.outcome").to_pylist(), dtype=object) == Outcome.OK.value
    ok[[row for row, _ in work.superseded]] = False
    rows = np.flatnonzero(ok & _standing(corpus, work, signals))
    picture = by_picture(messages, work.task)[rows]
    signals = signals.take(pa.array(rows))
    found = np.zeros(len(rows), dtype=CANDIDATE)
    uids = uid_array(signals.column("uid"))
    width = signals.column("image.width").fill_null(0).to_numpy().astype(np.int64)
    pictures = np.array(signals.column("image.sha256").to_pylist(), dtype="S32")
    found["content"] = np.where(picture, pictures, uids.astype("S32"))
    found["first_snapshot"] = work.first_snapshot
    found["wordless"] = signals.column("text.chars").to_numpy() == 0
    area = width * signals.column("image.height").fill_null(0).to_numpy()
    found["area"] = np.where(picture, area, signals.column("text.chars").to_numpy())
    found["uid"] = uids
    found["shard"] = work.index
    found["row"] = rows
    if dedup.near_radius is not None:
        hashed = signals.column("phash.hash").is_valid().to_numpy()
        near = picture & hashed & (signals.column("image.num_images").to_numpy() == 1)
        found["hash"][near] = signals.column("phash.hash").fill_null(0).to_numpy()[near]
        found["near"][near] = PICTURE
    signed = ~picture & signals.column(SIGNATURES).is_valid().to_numpy()
    if dedup.text_jaccard is None or not signed.any():
        return found, np.empty(0, SIGNATURE)
    signatures = signatures_of(signals.column(SIGNATURES).filter(signed).to_pylist(), pictures[signed])
    found["hash"][signed] = signatures["hash"]
    found["near"][signed] = TEXT
    return found, signatures


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
    digests = (blake2b(row.tobytes(), digest_size=8).digest() for row in found)
    found["hash"] = np.frombuffer(b"".join(digests), "<u8")
    return found


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
