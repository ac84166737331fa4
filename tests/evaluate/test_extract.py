from __future__ import annotations

import random

import pytest

from janus.evaluate.extract import read_answer
from tests.evaluate import kit_reference

COLOURS = {"A": "red", "B": "green", "C": "light blue"}
ANIMALS = {"A": "a cat", "B": "a dog", "C": "a bird", "D": "a fish"}


@pytest.mark.parametrize(
    ("said", "strict", "kit"),
    [
        ("yes", "yes", "yes"),
        ("Yes, there is.", "yes", "yes"),
        ("There is no circle", "no", "no"),
        ("Yes and no", None, None),
        ("I know nothing", None, None),  # "know" and "nothing" hold "no" but are other words
        ("", None, None),
        ("yes:", "yes", None),
        ("**Yes**", "yes", None),
        ("'yes'", "yes", None),
        ("Yes。", "yes", None),
        ("Answer:yes", "yes", None),
        ("yes/no", None, None),
        ("." * 33 + "yes", "yes", None),  # the kit takes out 32 full stops
        ("." * 32 + "yes", "yes", "yes"),
    ],
)
def test_yes_no(said: str, strict: str | None, kit: str | None) -> None:
    assert read_answer("yes_no", said, protocol="strict") == strict
    assert read_answer("yes_no", said, protocol="vlmevalkit") == kit


@pytest.mark.parametrize(
    ("said", "options", "expected"),
    [
        ("B", COLOURS, "B"),
        ("(B) blue", COLOURS, "B"),
        ("The answer is A.", COLOURS, "A"),
        ("The answer is C.", COLOURS, "C"),
        ("answer is b", COLOURS, "B"),
        ("The correct option is (c).", COLOURS, "C"),
        ("A red circle is seen here: B", COLOURS, "B"),  # the "A" that opens a sentence is the article
        ("A", COLOURS, "A"),
        ("It is A", COLOURS, "A"),
        ("A is right", COLOURS, "A"),
        ("It is light blue", COLOURS, "C"),
        ("blue", COLOURS, None),  # no option is just "blue"
        ("red or green", COLOURS, None),
        ("A or B", COLOURS, None),
        ("A, not B", COLOURS, None),
        ("bored", COLOURS, None),  # neither the letter B nor the word red
        ("B-52", COLOURS, None),
        ("", COLOURS, None),
        ("A dog is shown", ANIMALS, "B"),
        ("B. A dog", ANIMALS, "B"),
        ("The answer is a dog.", ANIMALS, "B"),
        ("I think it is a bird.", ANIMALS, "C"),
        ("A. cat\nB. dog\nThe answer is D", ANIMALS, "D"),
        ("10", {"A": "1", "B": "2", "C": "3", "D": "10"}, "D"),
        ("It is light blue.", {"A": "blue", "B": "light blue"}, "B"),  # "blue" stands only inside the longer option
        ("图中是猫。", {"A": "猫", "B": "狗"}, "A"),
        ("答案是B。", {"A": "猫", "B": "狗"}, "B"),
        ("Ｂ", {"A": "猫", "B": "狗"}, "B"),  # full width
        ("Это кошка.", {"A": "кошка", "B": "собака"}, "A"),
        ("кошкам", {"A": "кошка", "B": "собака"}, None),
        ("un café", {"A": "cafe", "B": "café"}, "B"),
        ("यह बिल्ली है", {"A": "बिल्ली", "B": "कुत्ता"}, "A"),
        ("यह बिल्ली है", {"A": "बिल", "B": "कुत्ता"}, None),  # the word goes on with a combining mark
        ("꿀벌", {"A": "꿀", "B": "꿀벌"}, "B"),
        ("これは猫です", {"A": "猫", "B": "犬"}, "A"),
    ],
)
def test_a_choice_is_read_strictly(said: str, options: dict[str, str], expected: str | None) -> None:
    assert read_answer("choice", said, options, protocol="strict") == expected


def test_every_letter_is_read_in_the_same_wordings() -> None:
    wordings = (
        "The answer is {}.",
        "{}",
        "({})",
        "{}. something",
        "Answer: {}",
        "**{}**",
        "It must be {}",
        "答案：{}",
    )
    for wording in wordings:
        for letter in ANIMALS:
            assert read_answer("choice", wording.format(letter), ANIMALS, protocol="strict") == letter, wording


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("The answer is A.", "A"),
        ("A dog is shown", "A"),  # to the letter, wrong as it is
        ("answer is b", None),
        ("B. A dog", "B"),  # two letters: read by the text
        ("a dog", "B"),
        ("Cannot determine the answer, maybe B", None),
        ("Z", None),
        ("A or B: a dog", "B"),
        ("a dog " + "x" * 60, None),  # longer than twice all options
    ],
)
def test_the_kits_own_cases(said: str, expected: str | None) -> None:
    assert read_answer("choice", said, ANIMALS, protocol="vlmevalkit") == expected


ENGLISH = "yes no Yes NO not A B C D Z a b the answer is cat dog bird red light blue 10 1,000 3.5 know maybe I"
WORDS = [*ENGLISH.split(), "Cannot determine the answer"]
MANDARIN = "是 不是 猫 狗 图中 答案是 红色 浅蓝色 Yes no A B C D 选 没有"
CHINESE = MANDARIN.split()
MARKS = ".|,|: |:|(|)|**|\n|/|-|!|?|。|，|'|\"|. |, "
GLUE = [" ", " ", " ", "", *MARKS.split("|")]
CASES = [
    (WORDS, {"A": "cat", "B": "dog", "C": "bird", "D": "10"}),
    (WORDS, {"A": "red", "B": "blue", "C": "light blue"}),
    (CHINESE, {"A": "猫", "B": "狗", "C": "红色", "D": "浅蓝色"}),
]


def generated(words: list[str], seed: int) -> str:
    dice = random.Random(seed)
    return "".join(dice.choice(words) + dice.choice(GLUE) for _ in range(dice.randint(1, 6)))


@pytest.mark.parametrize(("words", "options"), CASES)
def test_thousands_of_answers_are_read_as_the_kit_reads_them(words: list[str], options: dict[str, str]) -> None:
    answers = [generated(words, seed) for seed in range(3000)]
    read = {"yes_no": set(), "choice": set()}
    for said in answers:
        ours = read_answer("yes_no", said, protocol="vlmevalkit")
        assert ours == kit_reference.yes_no(said), said
        chosen = read_answer("choice", said, options, protocol="vlmevalkit")
        assert chosen == kit_reference.choice(said, options), said
        read["yes_no"].add(ours)
        read["choice"].add(chosen)
    # The comparison means something: every outcome came up.
    assert read == {"yes_no": {"yes", "no", None}, "choice": {*options, None}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("3", "3"),
        ("There are three.", "3"),
        ("three (3)", "3"),
        ("two or three", None),
        ("many", None),
        ("0", "0"),
        ("012.", "12"),
        ("４", "4"),
        ("m²", None),
    ],
)
def test_number_in_digits_or_words(said: str, expected: str | None) -> None:
    for protocol in ("strict", "vlmevalkit"):
        assert read_answer("number", said, protocol=protocol) == expected


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="protocol 'ours': expected vlmevalkit or strict"):
        read_answer("number", "3", protocol="ours")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs options"):
        read_answer("choice", "A", protocol="strict")
