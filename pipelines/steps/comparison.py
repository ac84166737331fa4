"""Which rows are compared with each other, and how they are divided among workers (design D16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.steps.dedup import DedupWork
from pipelines.steps.exchange import Exchange
from pipelines.steps.near import pieces_for
from pipelines.steps.near_embedding import NEAREST, clusters_for
from pipelines.steps.near_text import bands_for
from schemas.spec import Dedup
from storage.store import Store

GROUP_ROWS = 1_000_000
"""Rows of a group of shards: what a worker holds at a time (90 bytes each)."""
PART_ROWS = 1_000_000
"""Rows of a part, about."""
PLACE_ROWS = 4_000_000
"""Hashes that meet in one place, about (8 bytes each, some copies)."""

TEXT_SMALLER = 4
"""Groups and parts are smaller by this where texts are compared: a signature takes 272 bytes, its bands 24 each."""
EMBEDDING_SMALLER = 64
"""The same where pictures are compared by embedding: one of 512 components takes 1 KiB."""
TEXT_PARTS = 16
"""Parts of which all texts of one band meet in one place, about."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Comparison:
    """The rows of one task, which are compared with each other."""

    store: Store
    """For the files between the passes."""
    task: str
    dedup: Dedup
    first_shards: tuple[int, ...]
    """Index of the first shard of each group."""
    parts: int
    pieces: int
    """That hashes are cut into (pipelines/steps/near.py)."""
    per_piece: int
    width: int = 0
    """Of the embeddings of pictures; 0: they are not compared."""
    clusters: int = 0
    """Of embeddings."""

    @property
    def near(self) -> bool:
        """Whether rows are compared by more than their content."""
        return self.dedup.near_radius is not None or self.dedup.text_jaccard is not None or self.width > 0

    @property
    def groups(self) -> int:
        """Number of groups of shards."""
        return len(self.first_shards)

    @property
    def places(self) -> int:
        """Number of places where hashes meet."""
        return 0 if self.dedup.near_radius is None else (self.dedup.near_radius + 1) * self.per_piece

    def exchange(self, name: str, dtype: np.dtype) -> Exchange:
        """The exchange of this name of this task."""
        return Exchange(self.store, f"{self.task}/{name}", dtype)

    @property
    def text_places(self) -> int:
        """Number of places where texts meet."""
        if self.dedup.text_jaccard is None:
            return 0
        return 1 + self.parts * bands_for(self.dedup.text_jaccard)[0] // TEXT_PARTS

    @property
    def cluster_places(self) -> int:
        """Number of places where pictures meet those of the same clusters."""
        return min(self.clusters, NEAREST * self.parts) if self.width else 0

    def part_of(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The part that rows with these hashes belong to."""
        return self.spread(values, self.parts)

    def spread(self, values: npt.NDArray[np.uint64], places: int) -> npt.NDArray[np.int64]:
        """One of so many places for each value."""
        return ((self.mixed(values) >> np.uint64(32)) % np.uint64(places)).astype(np.int64)

    def mixed(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Another distinct value for each, in no order of theirs."""
        return values * _SPREAD


@dataclass(frozen=True)
class PassWork:
    """One element of a pass."""

    comparison: Comparison
    index: int
    """Of the group, part or place."""
    shards: tuple[DedupWork, ...] = ()
    """Of the group."""


Pass = Callable[[Store, PassWork], Any]


def compare(
    task: str, works: Sequence[DedupWork], rows: Sequence[int], dedup: Dedup, store: Store, width: int
) -> list[PassWork]:
    """The comparison of the shards of a task, which have so many rows each: one element per group of shards.

    `width` is that of the embeddings, 0 if they are not compared (`embedding_width`).
    """
    groups: list[list[DedupWork]] = []
    smaller = EMBEDDING_SMALLER if width else 1 if dedup.text_jaccard is None else TEXT_SMALLER
    held = most = GROUP_ROWS // smaller
    for work, count in zip(works, rows, strict=True):
        if held + count > most:
            groups.append([])
            held = 0
        groups[-1].append(work)
        held += count
    total = sum(rows)
    comparison = Comparison(
        store=store,
        task=task,
        dedup=dedup,
        first_shards=tuple(group[0].index for group in groups),
        parts=1 + total * smaller // PART_ROWS,
        pieces=0 if dedup.near_radius is None else pieces_for(total, dedup.near_radius),
        per_piece=1 + total // PLACE_ROWS,
        width=width,
        clusters=clusters_for(total) if width else 0,
    )
    return [PassWork(comparison, index, tuple(group)) for index, group in enumerate(groups)]
