"""Filters: thresholds over the signals of a whole shard at once. One reason per dropped row, the first that applies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.shardio import uid_array
from schemas.reasons import Drop, Outcome
from schemas.spec import Filters


@dataclass(frozen=True)
class Gate:
    """Where "the best-scored share" ends: the score and, among equals, the uid of the last row that is in."""

    score: float
    uid: str
    """Hex."""


def judge(signals: pa.Table, filters: Filters, gate: Gate | None = None) -> np.ndarray:
    """Reason (str) per row, None where no filter drops it or its outcome is not ok: object[N].

    A row is judged only by what it has: no image, no size; no score, no score threshold.
    """
    reasons = np.full(signals.num_rows, None, dtype=object)
    undecided = np.array(signals.column("outcome").to_pylist(), dtype=object) == Outcome.OK.value

    def drop(reason: Drop, where: np.ndarray) -> None:
        nonlocal undecided
        reasons[undecided & where] = reason.value
        undecided = undecided & ~where

    # Comparisons with a missing value (NaN) are false, so a row without the signal is never dropped for it.
    width, height = numbers(signals, "width"), numbers(signals, "height")
    chars, words = numbers(signals, "caption_chars"), numbers(signals, "caption_words")
    score = numbers(signals, "caption_score")
    short, long = np.minimum(width, height), np.maximum(width, height)
    drop(Drop.TOO_SMALL, short < filters.min_side)
    if filters.max_aspect is not None:
        drop(Drop.ASPECT_RATIO, long > filters.max_aspect * short)
    drop(Drop.CAPTION_LENGTH, (chars < filters.min_chars) | (words < filters.min_words))
    if filters.max_chars is not None:
        drop(Drop.CAPTION_LENGTH, chars > filters.max_chars)
    if filters.languages:
        wanted = {*filters.languages, None}
        other = np.array([language not in wanted for language in signals.column("language").to_pylist()], dtype=bool)
        drop(Drop.LANGUAGE, other & (numbers(signals, "language_score") >= filters.min_language_score))
    if filters.min_score is not None:
        # Scores are stored as float32: compare as such, so that a threshold of 0.28 keeps a score of 0.28.
        drop(Drop.LOW_SCORE, score < np.float32(filters.min_score))
    if gate is not None:
        uids = uid_array(signals.column("uid"))
        limit = np.float32(gate.score)
        drop(Drop.SCORE_RANK, (score < limit) | ((score == limit) & (uids > np.bytes_(bytes.fromhex(gate.uid)))))
    return reasons


def passes(reasons: np.ndarray) -> np.ndarray:
    """Where `judge` gave no reason: bool[N]."""
    return np.array([reason is None for reason in reasons], dtype=bool)


def numbers(signals: pa.Table, column: str) -> np.ndarray:
    """A numeric column as floats[N], NaN where it is null."""
    return signals.column(column).to_numpy().astype(np.float32 if column.endswith("score") else np.float64)


def rank_gate(signals: Iterable[pa.Table], filters: Filters) -> Gate | None:
    """The gate that keeps the best `filters.keep_top` of all scored rows of `signals`, None if all may stay.

    The share is of all rows with a score, so other filters do not let worse-scored rows in; ties are broken by uid.
    """
    if filters.keep_top is None:
        return None
    total = 0
    scores, uids = [], []
    for table in signals:
        score = numbers(table, "caption_score")
        scored = ~np.isnan(score)
        total += int(scored.sum())
        standing = scored & passes(judge(table, filters))
        scores.append(score[standing])
        uids.append(uid_array(table.column("uid"))[standing])
    places = int(filters.keep_top * total)
    score, uid = (np.concatenate(parts) if parts else np.empty(0) for parts in (scores, uids))
    if places >= len(score):
        return None
    if places == 0:
        return Gate(float("inf"), "")
    last = np.lexsort((uid, -score))[places - 1]
    return Gate(float(score[last]), uid[last].ljust(16, b"\0").hex())
