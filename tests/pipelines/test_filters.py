"""Filters row by row against a plain reading of the spec's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.steps.filters import Gate, judge, rank_gate
from schemas.layers import SIGNALS
from schemas.reasons import Drop, Outcome
from schemas.spec import Filters


def signals(*rows: dict[str, Any]) -> pa.Table:
    defaults = {name: None for name in SIGNALS.names} | {"outcome": "ok", "num_images": 1}
    filled = [defaults | {"uid": index.to_bytes(16, "big")} | row for index, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=SIGNALS)


def reason(filters: Filters, **row: Any) -> Any:
    return judge(signals(row), filters)[0]


@pytest.mark.parametrize(
    ("filters", "row", "expected"),
    [
        (Filters(min_side=64), {"width": 200, "height": 63}, Drop.TOO_SMALL),
        (Filters(min_side=64), {"width": 64, "height": 64}, None),
        (Filters(max_aspect=3), {"width": 300, "height": 100}, None),
        (Filters(max_aspect=3), {"width": 100, "height": 301}, Drop.ASPECT_RATIO),
        (Filters(min_chars=5), {"caption_chars": 4, "caption_words": 1}, Drop.CAPTION_LENGTH),
        (Filters(max_chars=5), {"caption_chars": 6, "caption_words": 1}, Drop.CAPTION_LENGTH),
        (Filters(min_words=3), {"caption_chars": 90, "caption_words": 2}, Drop.CAPTION_LENGTH),
        (Filters(min_words=3), {"caption_chars": 90, "caption_words": 3}, None),
        (Filters(languages=("en",)), {"language": "de", "language_score": 0.9}, Drop.LANGUAGE),
        (Filters(languages=("en", "de")), {"language": "de", "language_score": 0.9}, None),
        (Filters(languages=("en",), min_language_score=0.8), {"language": "de", "language_score": 0.7}, None),
        (Filters(min_score=0.28), {"caption_score": 0.28}, None),
        (Filters(min_score=0.28), {"caption_score": 0.2799}, Drop.LOW_SCORE),
        # The first reason that applies, in the order of the closed set.
        (Filters(min_side=9, max_aspect=2), {"width": 8, "height": 80}, Drop.TOO_SMALL),
        (Filters(max_aspect=2, min_score=1), {"width": 8, "height": 80, "caption_score": 0.0}, Drop.ASPECT_RATIO),
    ],
)
def test_one_threshold(filters: Filters, row: dict[str, Any], expected: Drop | None) -> None:
    assert reason(filters, **row) == expected


ALL = Filters(min_side=64, max_aspect=2, languages=("en",), min_score=0.3)


def test_a_row_is_judged_only_by_what_it_has() -> None:
    assert reason(ALL, num_images=0) is None, "a text row has no size, language or score here"


def test_a_failed_row_has_an_outcome_and_no_reason() -> None:
    assert reason(ALL, outcome=Outcome.TIMEOUT.value, width=1, height=1) is None


def test_defaults_keep_everything() -> None:
    row = {"width": 1, "height": 999, "caption_chars": 0, "caption_words": 0, "language": "xx", "caption_score": -1.0}
    assert reason(Filters(), **row) is None


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_the_best_share_is_exact_and_does_not_depend_on_shards(share: float) -> None:
    random = np.random.default_rng(0)
    # Few distinct scores, so that ties straddle the gate; every third row is too small.
    rows = [
        {"caption_score": float(random.integers(0, 9)) / 10, "width": 10 if n % 3 == 0 else 99, "height": 99}
        for n in range(90)
    ]
    uids = [bytes([7, n]) + bytes(14) for n in random.permutation(90)]
    rows = [row | {"uid": uid} for row, uid in zip(rows, uids, strict=True)]
    filters = Filters(min_side=50, keep_top=share)
    gates = {rank_gate([signals(*rows[cut:]), signals(*rows[:cut])], filters) for cut in (0, 30, 77)}
    assert len(gates) == 1
    reasons = judge(signals(*rows), filters, gates.pop())
    standing = sorted(
        (row for row in rows if row["width"] > 50), key=lambda row: (-np.float32(row["caption_score"]), row["uid"])
    )
    expected = {row["uid"] for row in standing[: int(share * 90)]}
    assert {row["uid"] for row, why in zip(rows, reasons, strict=True) if why is None} == expected
    assert set(reasons) <= {None, Drop.TOO_SMALL, Drop.SCORE_RANK}


def test_rows_without_a_score_are_not_ranked() -> None:
    table = signals({"caption_score": 0.1}, {"caption_score": 0.9}, {})
    gate = rank_gate([table], Filters(keep_top=0.5))
    assert gate == Gate(pytest.approx(0.9), (1).to_bytes(16, "big").hex())
    assert list(judge(table, Filters(), gate)) == [Drop.SCORE_RANK, None, None]


def test_no_place_left_keeps_no_scored_row() -> None:
    table = signals({"caption_score": 0.1}, {})
    assert list(judge(table, Filters(), rank_gate([table], Filters(keep_top=0.5)))) == [Drop.SCORE_RANK, None]
