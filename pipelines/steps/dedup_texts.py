"""The passes in which texts meet their near duplicates (design D16); see dedup_passes.py and near_text.py.

best       writes, of every distinct text of a part, its signature, and where it meets others
meet       texts of one place     → pairs to compare
attach     a part of the pairs    → the same with the signature of the one, for the part of the other
confirm    a part of these        → pairs that are similar enough
"""

from __future__ import annotations

import numpy as np

from pipelines.signals.minhash import PLACES
from pipelines.steps.comparison import Comparison, PassWork
from pipelines.steps.dedup import SIGNATURE, rank
from pipelines.steps.near import EDGE
from pipelines.steps.near_text import BAND, band_keys, meetings, similar
from storage.store import Store

HALF = np.dtype([("one", "<u8"), ("other", "<u8"), ("signature", "<u2", (PLACES,))])
"""A pair with the signature of the one."""


def send_texts(c: Comparison, part: int, rows: np.ndarray, signatures: np.ndarray) -> None:
    """Hand over the distinct texts of a part: CANDIDATE[T] with SIGNATURE[T]."""
    assert c.dedup.text_jaccard is not None
    c.exchange("signatures", SIGNATURE).write(part, signatures, np.zeros(len(rows), np.int64), 1)
    keys = list(band_keys(signatures["signature"], signatures["pictures"], c.dedup.text_jaccard))
    found = np.empty(len(keys) * len(rows), BAND)
    found["key"] = np.concatenate([np.empty(0, np.uint64), *keys])
    found["rank"], found["hash"] = np.tile(rank(rows), len(keys)), np.tile(rows["hash"], len(keys))
    c.exchange("bands", BAND).write(part, found, c.spread(found["key"], c.text_places), c.text_places)


def meet(corpus: Store, work: PassWork) -> None:
    """Pairs to compare among the texts of a place."""
    c = work.comparison
    one, other = meetings(c.exchange("bands", BAND).read(work.index, c.parts))
    pairs = np.empty(len(one), EDGE)
    pairs["one"], pairs["other"] = one, other
    c.exchange("meetings", EDGE).write(work.index, pairs, c.part_of(one), c.parts)


def attach(corpus: Store, work: PassWork) -> None:
    """The pairs of a part, each once, with the signature of the one."""
    c = work.comparison
    pairs = np.unique(c.exchange("meetings", EDGE).read(work.index, c.text_places))
    half = np.empty(len(pairs), HALF)
    half["one"], half["other"] = pairs["one"], pairs["other"]
    half["signature"] = _signatures(c, work.index, pairs["one"])
    c.exchange("halves", HALF).write(work.index, half, c.part_of(half["other"]), c.parts)


def confirm(corpus: Store, work: PassWork) -> None:
    """The pairs whose other is of this part, if they are similar enough."""
    c = work.comparison
    assert c.dedup.text_jaccard is not None
    half = c.exchange("halves", HALF).read(work.index, c.parts)
    half = half[similar(half["signature"], _signatures(c, work.index, half["other"]), c.dedup.text_jaccard)]
    edges = np.empty(len(half), EDGE)
    edges["one"], edges["other"] = half["one"], half["other"]
    c.exchange("text edges", EDGE).write(work.index, edges, np.zeros(len(edges), np.int64), 1)


def _signatures(c: Comparison, part: int, hashes: np.ndarray) -> np.ndarray:
    """uint16[N, PLACES] of texts of a part."""
    rows = c.exchange("signatures", SIGNATURE).read_from(part, 0)
    order = np.argsort(rows["hash"])
    return rows["signature"][order[np.searchsorted(rows["hash"], hashes, sorter=order)]]
