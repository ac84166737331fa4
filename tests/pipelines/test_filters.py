"""Filters row by row against a plain reading of their words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.filters import FILTERS, Filter, load_filter, reasons
from pipelines.signals import field_type
from pipelines.steps.judge import judge, loaded, standing
from schemas.layers import UID
from schemas.reasons import Drop, Outcome

FIELDS = [
    "image.outcome", "image.width", "image.height", "text.chars", "text.words", "language.code", "language.score",
    "caption_score.cosine",
]  # fmt: skip
SCHEMA = pa.schema([("uid", UID), *((field, field_type(field)) for field in FIELDS)])


def signals(*rows: dict[str, Any]) -> pa.Table:
    """Keyword-like: image_width=3 is the field image.width."""
    defaults = {"uid": None, **dict.fromkeys(FIELDS), "image.outcome": "ok"}
    return pa.Table.from_pylist(
        [defaults | {"uid": index.to_bytes(16, "big")} | row for index, row in enumerate(rows)], schema=SCHEMA
    )


def filters(settings: dict[str, dict[str, Any]]) -> list[Filter]:
    return [load_filter(name, options) for name, options in settings.items()]


def reason(settings: dict[str, dict[str, Any]], row: dict[str, Any]) -> Any:
    return judge(signals(row), filters(settings), {})[0]


def size(width: int, height: int) -> dict[str, Any]:
    return {"image.width": width, "image.height": height}


def text(chars: int, words: int) -> dict[str, Any]:
    return {"text.chars": chars, "text.words": words}


def language(code: str, score: float) -> dict[str, Any]:
    return {"language.code": code, "language.score": score}


@pytest.mark.parametrize(
    ("settings", "row", "expected"),
    [
        ({"size": {"min_side": 64}}, size(200, 63), "too_small"),
        ({"size": {"min_side": 64}}, size(63, 200), "too_small"),
        ({"size": {"min_side": 64}}, size(64, 64), None),
        ({"aspect_ratio": {"max": 3}}, size(300, 100), None),
        ({"aspect_ratio": {"max": 3}}, size(100, 301), "aspect_ratio"),
        ({"caption_length": {"min_chars": 5}}, text(4, 1), "caption_length"),
        ({"caption_length": {"max_chars": 5}}, text(6, 1), "caption_length"),
        ({"caption_length": {"max_chars": 5}}, text(5, 1), None),
        ({"caption_length": {"min_words": 3}}, text(90, 2), "caption_length"),
        ({"caption_length": {"min_words": 3}}, text(90, 3), None),
        ({"caption_length": {}}, text(0, 0), None),
        ({"language": {"keep": ["en"]}}, language("de", 0.9), "language"),
        ({"language": {"keep": ["en", "de"]}}, language("de", 0.9), None),
        ({"language": {"keep": ["en"], "min_score": 0.8}}, language("de", 0.7), None),
        ({"language": {"keep": ["en"], "min_score": 0.8}}, language("de", 0.8), "language"),
        ({"caption_score": {"min": 0.28}}, {"caption_score.cosine": 0.28}, None),
        ({"caption_score": {"min": 0.28}}, {"caption_score.cosine": 0.2799}, "low_score"),
        # The first that drops, in the spec's order.
        ({"size": {"min_side": 9}, "aspect_ratio": {"max": 2}}, size(8, 80), "too_small"),
        ({"aspect_ratio": {"max": 2}, "size": {"min_side": 9}}, size(8, 80), "aspect_ratio"),
        ({}, size(1, 999), None),
    ],
)
def test_one_filter(settings: dict[str, Any], row: dict[str, Any], expected: str | None) -> None:
    assert reason(settings, row) == expected


ALL: dict[str, dict[str, Any]] = {
    "size": {"min_side": 64},
    "aspect_ratio": {"max": 2},
    "caption_length": {"min_words": 3, "max_chars": 9},
    "language": {"keep": ["en"]},
    "caption_score": {"min": 0.3},
}


def test_a_row_is_judged_only_by_what_it_has() -> None:
    assert reason(ALL, {}) is None


def test_a_failed_row_has_an_outcome_and_no_reason() -> None:
    assert reason(ALL, {"image.outcome": Outcome.TIMEOUT.value, **size(1, 1)}) is None


def test_every_filter_has_a_reason_of_its_own() -> None:
    found = [load_reason(name) for name in FILTERS.names()]
    assert len(found) == len(set(found)) == len(reasons())
    assert not reasons() & {*map(str, Drop), *map(str, Outcome), "rows"}


def load_reason(name: str) -> str:
    module = FILTERS.load(name)
    return str(getattr(module, "REASON", name))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("sise", {}, r"^filters: no filter 'sise' \(did you mean size\?\); there are: aesthetic, aspect_ratio"),
        (
            "size",
            {"min_sid": 3},
            r"^filters.size: no option 'min_sid' \(did you mean min_side\?\); there are: min_side$",
        ),
        ("size", {}, r"^filters.size.min_side: Field required$"),
        ("size", {"min_side": "3"}, r"^filters.size.min_side: Input should be a valid integer$"),
        ("rank", {"by": "text.chars", "keep": 0}, r"^filters.rank.keep: Input should be greater than 0$"),
        ("language", {"keep": []}, r"^filters.language.keep: List should have at least 1 item"),
    ],
)
def test_a_mistake_is_one_line(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        load_filter(name, options)
    assert "\n" not in str(error.value)


def test_the_key_holds_the_options_that_are_set() -> None:
    assert load_filter("language", {"keep": ["en"]}).key == ["language", 1, {"keep": ["en"]}]
    assert load_filter("language", {"keep": ["en"], "min_score": 0.0}).key == ["language", 1, {"keep": ["en"]}]
    assert load_filter("language", {"keep": ["en"], "min_score": 0.5}).key[2] == {"keep": ["en"], "min_score": 0.5}


def gate_of(settings: dict[str, dict[str, Any]], tables: list[pa.Table]) -> Any:
    """As the decide step finds it out."""
    *alone, rank = filters(settings)
    assert rank.gate is not None
    return rank.gate((loaded(table), standing(judge(loaded(table), alone, {}))) for table in tables)


@pytest.mark.parametrize("best", ["highest", "lowest"])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_the_best_share_is_exact_and_does_not_depend_on_shards(share: float, best: str) -> None:
    random = np.random.default_rng(0)
    # Few distinct scores, so that ties straddle the gate; every third row is too small, every tenth failed.
    rows = [
        {
            "caption_score.cosine": float(random.integers(0, 9)) / 10,
            **size(10 if n % 3 == 0 else 99, 99),
            "image.outcome": "bad_image" if n % 10 == 0 else "ok",
        }
        for n in range(90)
    ]
    uids = [bytes([7, n]) + bytes(14) for n in random.permutation(90)]
    rows = [row | {"uid": uid} for row, uid in zip(rows, uids, strict=True)]
    rank = {"by": "caption_score.cosine", "keep": share, "best": best}
    settings = {"size": {"min_side": 50}, "rank": rank}
    gates = [gate_of(settings, [signals(*rows[cut:]), signals(*rows[:cut])]) for cut in (0, 30, 77)]
    assert gates[0] == gates[1] == gates[2]
    found = judge(signals(*rows), filters(settings), {"rank": gates[0]})
    sign = -1 if best == "highest" else 1
    alive = [row for row in rows if row["image.outcome"] == "ok"]
    left = sorted(
        (row for row in alive if row["image.width"] > 50),
        key=lambda row: (sign * np.float32(row["caption_score.cosine"]), row["uid"]),
    )
    expected = {row["uid"] for row in left[: int(share * len(alive))]}
    kept = {row["uid"] for row, why in zip(rows, found, strict=True) if why is None and row["image.outcome"] == "ok"}
    assert kept == expected
    assert set(found) <= {None, "too_small", "score_rank"}


RANK: dict[str, dict[str, Any]] = {"rank": {"by": "caption_score.cosine", "keep": 0.5}}


def test_the_rank_is_taken_after_all_other_filters_wherever_it_stands() -> None:
    scores = [(0.1, 9), (0.9, 99), (0.5, 99)]
    table = signals(*({"caption_score.cosine": score, **size(side, side)} for score, side in scores))
    gate = gate_of({"size": {"min_side": 50}, **RANK}, [table])
    for settings in ({**RANK, "size": {"min_side": 50}}, {"size": {"min_side": 50}, **RANK}):
        assert list(judge(table, filters(settings), {"rank": gate})) == ["too_small", None, "score_rank"]


def test_rows_without_a_score_are_not_ranked() -> None:
    table = signals({"caption_score.cosine": 0.1}, {"caption_score.cosine": 0.9}, {})
    gate = gate_of(RANK, [table])
    assert gate == [pytest.approx(0.9), (1).to_bytes(16, "big").hex()]
    assert list(judge(table, filters(RANK), {"rank": gate})) == ["score_rank", None, None]


def test_no_place_left_keeps_no_scored_row() -> None:
    table = signals({"caption_score.cosine": 0.1}, {})
    assert list(judge(table, filters(RANK), {"rank": gate_of(RANK, [table])})) == ["score_rank", None]


def test_any_number_can_be_ranked_and_nothing_else() -> None:
    assert load_filter("rank", {"by": "image.width", "keep": 0.5}).reads == ("image.width",)
    for field, says in (
        ("image.format", "by: image.format is no number but string"),
        ("image.widht", r"no signal field 'image.widht' \(did you mean image.width\?\)"),
        ("imag.width", r"no signal field 'imag.width': no signal 'imag' \(did you mean image\?\)"),
        ("width", "no signal field 'width': no signal 'width'"),
    ):
        with pytest.raises(ValueError, match=says):
            _ = load_filter("rank", {"by": field, "keep": 0.5}).reads
