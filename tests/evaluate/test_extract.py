from __future__ import annotations

import pytest

from janus.evaluate import extract


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("yes", "yes"),
        ("Yes, there is.", "yes"),
        ("No.", "no"),
        ("There is no circle", "no"),
        ("Yes and no", None),
        ("I know nothing", None),  # "know" and "nothing" hold "no" but are other words
        ("", None),
        ("YES", "yes"),
    ],
)
def test_yes_no_needs_exactly_one_of_the_words(said: str, expected: str | None) -> None:
    assert extract.yes_no(said) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("B", "B"),
        ("(B) blue", "B"),
        ("The answer is C.", "C"),
        ("A red circle is seen here: B", "B"),  # a stand-alone A in a sentence is the article
        ("A", "A"),
        ("It is light blue", "C"),
        ("blue", None),  # no option is just "blue", and "light blue" is not said
        ("red or green", None),
        ("A or B", None),
        ("bored", None),  # neither the letter B nor the word red
        ("", None),
    ],
)
def test_choice_by_letter_then_by_text(said: str, expected: str | None) -> None:
    assert extract.choice(said, ["red", "green", "light blue"]) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("3", 3),
        ("There are three.", 3),
        ("three (3)", 3),
        ("two or three", None),
        ("many", None),
        ("0", 0),
        ("12.", 12),
    ],
)
def test_number_in_digits_or_words(said: str, expected: int | None) -> None:
    assert extract.number(said) == expected
