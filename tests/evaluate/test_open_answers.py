from __future__ import annotations

import pytest

from janus.evaluate.open_answers import mmmu_open_right, normalize_vqa, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A Dog.", "dog"),
        ("the two cats", "2 cats"),
        ("none", "0"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("well", "well"),
        ("yes, it is", "yes it is"),
        ("red/blue", "red blue"),  # no blank beside it: a blank comes in its place
        ("red / blue", "red blue"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("  line\none ", "line 1"),
    ],
)
def test_normalisation_by_hand(answer: str, expected: str) -> None:
    assert normalize_vqa(answer) == expected


@pytest.mark.parametrize(
    ("agreeing", "expected"),
    # Leaving one person out in turn: of n who agree, each of those n has n - 1 others, the rest have n.
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_accuracy_by_the_number_of_people_who_agree(agreeing: int, expected: float) -> None:
    answers = ["Red."] * agreeing + [f"other {index}" for index in range(10 - agreeing)]
    assert vqa_accuracy("red", answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "answers", "right"),
    [
        ("The answer is 3.14", ["3.14"], True),
        ("3.141", ["3.14"], True),  # two decimals
        ("3.15", ["3.14"], False),
        ("It costs 12,345 dollars", ["12345"], True),
        ("so x = 7", ["7"], True),
        ("about 70", ["7"], False),
        ("The final answer is the Nile river", ["Nile"], True),
        ("The Nile is not it.\nThe answer is the Rhine", ["Nile"], False),  # only what follows the last "is" counts
        ("the Rhine", ["Nile", "Rhine"], True),
        ("arsenic", ["C"], False),  # a single letter must stand beside a blank
        ("vitamin c deficiency", ["C"], True),
        ("", ["7"], False),
    ],
)
def test_mmmus_open_questions_by_hand(said: str, answers: list[str], right: bool) -> None:
    assert mmmu_open_right(said, answers) is right
