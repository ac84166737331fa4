"""How the rows of a corpus meet their duplicates: passes over files, each done by many workers (design D16).

    gather     a group of shards     → candidates, by content or perceptual hash
    best       a part of them        → the preferred row of every hash; the hashes, by the values of their first pieces
    near       hashes of one place   → pairs within the radius
    texts: see dedup_texts.py        → pairs that are similar enough
    embeddings: dedup_embeddings.py  → the same
    resolve    all pairs of a task   → hashes that lose, and to which row
    verdicts   a part of candidates  → rows that are duplicates, by group of shards
    collect    a group of shards     → the same by shard, and a digest for the key of each shard's decisions

Rows go from pass to pass through `Exchange`s in a scratch store. No process holds more than one group of shards or one
part of the rows; the one that started the build holds the names of the shards. `resolve` alone is one worker's work per
task: it holds some 150 bytes for every hash that has a near neighbour. A corpus of few rows goes through all passes on
one worker.

The same content has the same hash, so rows that take part in the near comparison meet their exact duplicates there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pipelines.steps.comparison import Comparison, Pass, PassWork
from pipelines.steps.dedup import (
    CANDIDATE,
    EMBEDDING,
    NOT,
    PICTURE,
    REASONS,
    SIGNATURE,
    TEXT,
    Duplicate,
    candidates,
    duplicates_digest,
    leaders,
    preference,
)
from pipelines.steps.dedup_embeddings import assign, cluster, cosines, send_embeddings
from pipelines.steps.dedup_texts import attach, confirm, meet, send_texts
from pipelines.steps.near import EDGE, kept, pairs, places
from storage.store import Store

HASH = np.dtype([("hash", "<u8")])
LOST = np.dtype([("hash", "<u8"), ("winner", "S16"), ("reason", "u1")])
"""A hash that is close to one that is kept, the uid of that one's row, and by what: a place in REASONS."""
VERDICT = np.dtype([("shard", "<u4"), ("row", "<u4"), ("reason", "u1"), ("winner", "S16")])
"""`reason` is a place in REASONS."""


def gather(corpus: Store, work: PassWork) -> None:
    """The candidates of a group of shards, by part."""
    c = work.comparison
    found = [candidates(corpus, shard, c.dedup, c.width) for shard in work.shards]
    send(c, work.index, *(np.concatenate(kind) for kind in zip(*found, strict=True)))


def send(c: Comparison, group: int, found: np.ndarray, signatures: np.ndarray, vectors: np.ndarray) -> None:
    """Hand over the candidates CANDIDATE[N] of a group, the SIGNATURE[T] of those of them that are texts, and the
    vector_type(width)[E] of those that have an embedding."""
    start = np.ascontiguousarray(found["content"]).view("<u8")[::4]
    part = c.part_of(np.where(found["near"] != NOT, found["hash"], start))
    c.exchange("candidates", CANDIDATE).write(group, found, part, c.parts)
    if c.dedup.text_jaccard is not None:
        _, first = np.unique(signatures["hash"], return_index=True)
        signatures = signatures[first]
        c.exchange("texts", SIGNATURE).write(group, signatures, c.part_of(signatures["hash"]), c.parts)
    if c.width:
        c.exchange("vectors", vectors.dtype).write(group, vectors, c.part_of(vectors["hash"]), c.parts)


def best(corpus: Store, work: PassWork) -> None:
    """The preferred row of every hash of a part, and these by the places where they meet others."""
    c, radius = work.comparison, work.comparison.dedup.near_radius
    rows = c.exchange("candidates", CANDIDATE).read(work.index, c.groups)
    rows, _, first = leaders(rows[rows["near"] != NOT], "hash")
    rows = rows[first]
    c.exchange("best", CANDIDATE).write(work.index, rows, np.zeros(len(rows), np.int64), 1)
    if radius is not None:
        hashes = rows["hash"][rows["near"] == PICTURE]
        place = np.concatenate(list(places(hashes, c.pieces, radius, c.per_piece)))
        c.exchange("hashes", HASH).write(work.index, np.tile(hashes, radius + 1).view(HASH), place, c.places)
    if c.dedup.text_jaccard is not None:
        texts = c.exchange("texts", SIGNATURE).read(work.index, c.groups)
        _, at = np.unique(texts["hash"], return_index=True)  # in the order of hashes, as `leaders` are
        send_texts(c, work.index, rows[rows["near"] == TEXT], texts[at])
    if c.width:
        send_embeddings(c, work.index, rows[np.isin(rows["near"], (PICTURE, EMBEDDING))])


def near(corpus: Store, work: PassWork) -> None:
    """Pairs within the radius among the hashes of a place."""
    c, radius = work.comparison, work.comparison.dedup.near_radius
    assert radius is not None
    hashes = c.exchange("hashes", HASH).read(work.index, c.parts)["hash"]
    edges = pairs(hashes, work.index // c.per_piece, c.pieces, radius)
    c.exchange("edges", EDGE).write(work.index, edges, np.zeros(len(edges), np.int64), 1)


def resolve(corpus: Store, work: PassWork) -> None:
    """Hashes that lose to others, by part."""
    c = work.comparison
    of_texts = c.parts if c.dedup.text_jaccard is not None else 0
    kinds = {
        PICTURE: c.exchange("edges", EDGE).read(0, c.places),
        TEXT: c.exchange("text edges", EDGE).read(0, of_texts),
        EMBEDDING: c.exchange("embedding edges", EDGE).read(0, c.cluster_places),
    }
    edges = np.concatenate([*kinds.values()])
    kind = np.repeat([*kinds], [len(of_kind) for of_kind in kinds.values()]).astype(np.uint8)
    involved = np.unique(np.concatenate([edges["one"], edges["other"]]))
    found = [np.empty(0, CANDIDATE)]
    for part in range(c.parts if len(involved) else 0):
        rows = c.exchange("best", CANDIDATE).read_from(part, 0)
        found.append(rows[np.isin(rows["hash"], involved)])
    rows = np.concatenate(found)
    rows = rows[preference(rows)]
    rank = np.argsort(rows["hash"])
    ends = [rank[np.searchsorted(rows["hash"], edges[end], sorter=rank)] for end in ("one", "other")]
    before, after = np.minimum(*ends), np.maximum(*ends)
    winner = kept(len(rows), before, after)
    reason = np.full(len(rows), len(REASONS), np.uint8)
    decisive = winner[after] == before
    np.minimum.at(reason, after[decisive], kind[decisive])  # a pair that is close by both hash and embedding: by hash
    losing = np.flatnonzero(winner >= 0)
    lost = np.empty(len(losing), LOST)
    lost["hash"], lost["winner"], lost["reason"] = rows["hash"][losing], rows["uid"][winner[losing]], reason[losing]
    c.exchange("lost", LOST).write(0, lost, c.part_of(lost["hash"]), c.parts)


def verdicts(corpus: Store, work: PassWork) -> None:
    """Which rows of a part are duplicates, and of which row, by group of shards."""
    c = work.comparison
    rows = c.exchange("candidates", CANDIDATE).read(work.index, c.groups)
    found = _exact(rows[rows["near"] == NOT]) if c.dedup.exact else np.empty(0, VERDICT)
    if c.near:
        lost = c.exchange("lost", LOST).read(work.index, 1)
        found = np.concatenate([found, _near(rows[rows["near"] != NOT], lost, c.dedup.exact)])
    group = np.searchsorted(np.asarray(c.first_shards), found["shard"], side="right") - 1
    c.exchange("verdicts", VERDICT).write(work.index, found, group, c.groups)


def _exact(rows: np.ndarray) -> np.ndarray:
    """VERDICT[D] of the rows that are compared by content alone."""
    rows, leader, first = leaders(rows, "content")
    found = np.empty(int((~first).sum()), VERDICT)
    for name in ("shard", "row"):
        found[name] = rows[name][~first]
    found["reason"], found["winner"] = 0, rows["uid"][leader[~first]]
    return found


def _near(rows: np.ndarray, lost: np.ndarray, exact: bool) -> np.ndarray:
    """VERDICT[D] of the rows that are compared by hash. `lost` is LOST[L] of the hashes that lose to others."""
    rows, leader, first = leaders(rows, "hash")
    winner = rows["uid"][leader]
    lost = lost[np.argsort(lost["hash"])]
    at = np.searchsorted(lost["hash"], rows["hash"]).clip(max=max(0, len(lost) - 1))
    loses = lost["hash"][at] == rows["hash"] if len(lost) else np.zeros(len(rows), bool)
    winner[loses] = lost["winner"][at[loses]]
    reason = rows["near"].copy()
    reason[loses] = lost["reason"][at[loses]]
    copy = np.zeros(len(rows), bool)
    if exact:
        # Rows of one content lie within those of one hash: the best of them comes first here too.
        by_content = np.lexsort((np.arange(len(rows)), rows["content"]))
        content = rows["content"][by_content]
        copy[by_content[1:]] = content[1:] == content[:-1]
    duplicate = ~first | loses
    found = np.empty(int(duplicate.sum()), VERDICT)
    for name in ("shard", "row"):
        found[name] = rows[name][duplicate]
    found["reason"] = np.where(copy, 0, reason)[duplicate]
    found["winner"] = winner[duplicate]
    return found


def collect(corpus: Store, work: PassWork) -> list[str]:
    """The duplicates of a group of shards, by shard. Returns a digest for each shard."""
    c = work.comparison
    found = c.exchange("verdicts", VERDICT).read(work.index, c.parts)
    found = found[np.lexsort((found["row"], found["shard"]))]
    indices = np.asarray([shard.index for shard in work.shards])
    own = np.searchsorted(indices, found["shard"])
    c.exchange("duplicates", VERDICT).write(work.index, found, own, len(indices))
    bounds = np.searchsorted(own, np.arange(len(indices) + 1))
    return [duplicates_digest(_told(found[a:b])) for a, b in pairwise(bounds.tolist())]


def _told(verdicts: np.ndarray) -> list[Duplicate]:
    return [
        Duplicate(row, REASONS[reason], winner.ljust(16, b"\0").hex()) for _, row, reason, winner in verdicts.tolist()
    ]


@dataclass(frozen=True)
class DuplicatesOf:
    """Where the duplicates of one shard lie, and their digest."""

    digest: str
    comparison: Comparison | None = None
    """None: there are none."""
    group: int = 0
    place: int = 0
    """Of the shard in its group."""

    def read(self) -> list[Duplicate]:
        """By row."""
        if self.comparison is None:
            return []
        return _told(self.comparison.exchange("duplicates", VERDICT).read_from(self.group, self.place))


@dataclass(frozen=True)
class PassStep:
    """Runs a pass on its elements."""

    corpus: Store
    do: Pass

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: PassWork, advance: Callable[[int], None]) -> Any:
        """One element."""
        return self.do(self.corpus, work)


@dataclass(frozen=True)
class AllPassesStep:
    """Runs all passes over all tasks, one element after the other; for few rows."""

    corpus: Store

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, works: Sequence[Sequence[PassWork]], advance: Callable[[int], None]) -> list[list[str]]:
        """The digests of all groups, in order."""
        return run_passes(works, lambda name, do, items: [do(self.corpus, item) for item in items])


Run = Callable[[str, Pass, Sequence[PassWork]], list[Any]]


def run_passes(tasks: Sequence[Sequence[PassWork]], run: Run) -> list[list[str]]:
    """Take the groups of each task through the passes; the digests of all groups, in order."""
    groups = [group for groups in tasks for group in groups]
    comparisons = [groups[0].comparison for groups in tasks]
    close = [c for c in comparisons if c.near]
    by_embedding = [c for c in comparisons if c.width]
    by_hash = [c for c in comparisons if c.dedup.near_radius is not None]
    by_text = [c for c in comparisons if c.dedup.text_jaccard is not None]

    def parts(of: Sequence[Comparison]) -> list[PassWork]:
        return [PassWork(c, part) for c in of for part in range(c.parts)]

    run("dedup gather", gather, groups)
    if close:
        run("dedup hashes", best, parts(close))
    if by_hash:
        run("dedup pairs", near, [PassWork(c, place) for c in by_hash for place in range(c.places)])
    if by_text:
        run("dedup texts", meet, [PassWork(c, place) for c in by_text for place in range(c.text_places)])
        run("dedup text pairs", attach, parts(by_text))
        run("dedup similar", confirm, parts(by_text))
    if by_embedding:
        run("dedup clusters", cluster, [PassWork(c, 0) for c in by_embedding])
        run("dedup assign", assign, parts(by_embedding))
        run("dedup cosines", cosines, [PassWork(c, place) for c in by_embedding for place in range(c.cluster_places)])
    if close:
        run("dedup resolve", resolve, [PassWork(c, 0) for c in close])
    run("dedup verdicts", verdicts, parts(comparisons))
    return run("dedup collect", collect, groups)
