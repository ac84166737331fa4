"""The rules of Gopher and C4 on texts counted by hand."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipelines.filters import load_filter
from pipelines.row import Row
from pipelines.signals import field_type, load_signal


def quality(*texts: str) -> dict[str, Any]:
    messages = [{"role": "document", "text": text} for text in texts]
    return dict(load_signal("text_quality").measure(Row("text", bytes(16), "ok", messages, [], max_pixels=1)))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("<image>ab cd\n\nefgh 12",), {"words": 4, "mean_word_length": 2.5, "alphabetic_words": 0.75}),
        (("a # b ... c\u2026 d",), {"symbols_per_word": 0.5}),
        (("The cat, and THE dog with (that).",), {"stop_words": 4}),
        (("- a\n* b\nc\nd...",), {"bullet_lines": 0.5, "ellipsis_lines": 0.25}),
        # Three of four lines the same: two are duplicates, of 3 characters each out of 10.
        (("abc\nabc\n\nabc\nd",), {"duplicate_lines": 0.5, "duplicate_line_chars": 0.6, "duplicate_paragraphs": 0}),
        (("a b", "a b", "c d e"), {"duplicate_paragraphs": 0.3333, "duplicate_paragraph_chars": 0.2857}),
        # "a b" twice, 4 of 6 characters; no group of three twice.
        (("a b c a b d",), {"top_2gram_chars": 0.6667, "top_3gram_chars": 0}),
        (("x x x x",), {"top_2gram_chars": 1, "top_3gram_chars": 1, "top_4gram_chars": 0}),
        # Five words twice, six words never: 10 of 12 characters.
        (("a b c d e X a b c d e Y",), {"duplicate_5gram_chars": 0.8333, "duplicate_6gram_chars": 0}),
        (
            ("One two three four five.\nToo short.\nNo mark at the end here\nPlease enable Javascript in your tab.\n"
             'He said "now it is over." And left! Why did he?',),
            {"c4_lines": 0.4, "c4_sentences": 4, "c4_placeholder": False},
        ),
        (("This is cut off here...",), {"c4_lines": 0, "c4_sentences": 0}),
        (("Lorem Ipsum dolor",), {"c4_placeholder": True}),
        (("if (a) { b }",), {"c4_placeholder": True}),
    ],
)  # fmt: skip
def test_values_counted_by_hand(texts: tuple[str, ...], expected: dict[str, Any]) -> None:
    found = quality(*texts)
    assert {*found} == {*load_signal("text_quality").fields}
    assert {name: found[name] for name in expected} == expected


def dropped(rules: list[str], *rows: dict[str, Any]) -> list[bool]:
    names = [*load_signal("text_quality").fields]
    table = pa.table(
        {f"text_quality.{n}": pa.array([r.get(n) for r in rows], field_type(f"text_quality.{n}")) for n in names}
    )
    return [bool(one) for one in load_filter("text_quality", {"rules": rules}).drops(table)]


def test_thresholds_are_the_published_ones_and_inclusive() -> None:
    assert dropped(["gopher_quality"], *({"words": n} for n in (49, 50, 100_000, 100_001))) == [
        True,
        False,
        False,
        True,
    ]
    assert dropped(["gopher_quality"], {"alphabetic_words": 0.8}, {"alphabetic_words": 0.79}, {}) == [
        False,
        True,
        False,
    ]
    assert dropped(["gopher_repetition"], {"duplicate_lines": 0.3}, {"duplicate_lines": 0.3001}) == [False, True]
    assert dropped(["gopher_repetition"], {"words": 3}, {"top_2gram_chars": 0.21}) == [False, True]
    assert dropped(["c4"], {"c4_sentences": 2}, {"c4_sentences": 3}, {"c4_placeholder": True}) == [True, False, True]
    assert dropped(["c4", "gopher_quality"], {"stop_words": 1}, {"c4_sentences": 0}) == [True, True]


def test_prose_passes_and_a_repeated_line_does_not() -> None:
    prose = (
        "The harbour lies at the mouth of a river that few ships have entered since the old lighthouse was closed. "
        "Fishermen still go out before dawn, and come home with nets full of herring. "
        "In winter, ice covers the quay! Who would want to be there with nothing but wool against the wind? "
        "My grandmother did, every year, until her eyes failed."
    )
    rules = ["gopher_quality", "gopher_repetition", "c4"]
    assert dropped(rules, quality(prose), quality("\n".join([prose] * 3))) == [False, True]


def test_unknown_rules_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"^filters.text_quality.rules.0: Input should be 'gopher_quality', "):
        load_filter("text_quality", {"rules": ["gopher"]})
    with pytest.raises(ValueError, match=r"^filters.text_quality.rules: List should have at least 1 item"):
        load_filter("text_quality", {"rules": []})
