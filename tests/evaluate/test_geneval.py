from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from janus.evaluate.geneval import Detection, judge, read_prompts, relations, scores


def found(name: str, x: float, y: float, *, size: float = 10, color: str | None = None, sure: float = 1.0) -> Detection:
    return Detection(name, (x, y, x + size, y + size), sure, color)


def test_reads_the_benchmark_itself(shared_data: Path) -> None:
    prompts = read_prompts(shared_data / "benchmarks" / "geneval" / "prompts" / "evaluation_metadata.jsonl")
    assert Counter(prompt.tag for prompt in prompts) == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert prompts[0].text == "a photo of a bench"


def test_overall_is_the_mean_of_the_tasks_not_of_the_images() -> None:
    # single_object 3 of 4, counting 0 of 1: the mean over images would be 0.6.
    verdicts = [("single_object", True)] * 3 + [("single_object", False), ("counting", False)]
    assert scores(verdicts) == {"single_object": 0.75, "counting": 0.0, "overall": 0.375}


COUNTING = {"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}]}


@pytest.mark.parametrize(("number", "right"), [(1, False), (2, True), (3, False)])
def test_counting_wants_the_exact_number(number: int, right: bool) -> None:
    assert judge([found("clock", 20 * index, 0) for index in range(number)], COUNTING)[0] is right


def test_counting_asks_for_more_confidence_than_the_other_tasks() -> None:
    unsure = [found("clock", 0, 0, sure=0.95), found("clock", 20, 0, sure=0.95), found("clock", 40, 0, sure=0.85)]
    assert judge(unsure, COUNTING)[0]  # the third is under 0.9 and so not there
    assert judge(unsure[2:], {"tag": "single_object", "include": [{"class": "clock", "count": 1}]})[0]
    assert not judge(
        [found("clock", 0, 0, sure=0.3)], {"tag": "single_object", "include": [{"class": "clock", "count": 1}]}
    )[0]


def test_two_objects_must_both_be_there_and_others_may_be() -> None:
    metadata = {"tag": "two_object", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1}]}
    assert judge([found("dog", 0, 0), found("cat", 30, 0), found("cow", 60, 0)], metadata) == (True, "")
    assert judge([found("dog", 0, 0)], metadata) == (False, "expected 1 cat, found 0")


def test_colour_is_read_from_the_most_confident_object_only() -> None:
    metadata = {"tag": "colors", "include": [{"class": "car", "count": 1, "color": "red"}]}
    red, blue = found("car", 0, 0, color="red", sure=0.8), found("car", 30, 0, color="blue", sure=0.9)
    assert judge([red], metadata)[0]
    assert judge([red, blue], metadata) == (False, "expected red car, found blue")


def test_colour_attribution_binds_each_colour_to_its_object() -> None:
    metadata = {
        "tag": "color_attr",
        "include": [{"class": "cup", "count": 1, "color": "red"}, {"class": "bowl", "count": 1, "color": "blue"}],
    }
    assert judge([found("cup", 0, 0, color="red"), found("bowl", 30, 0, color="blue")], metadata)[0]
    assert not judge([found("cup", 0, 0, color="blue"), found("bowl", 30, 0, color="red")], metadata)[0]


POSITION = {
    "tag": "position",
    "include": [{"class": "bear", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}],
}


def test_position_is_of_the_later_object_relative_to_the_earlier() -> None:
    bear = found("bear", 0, 0)
    assert judge([bear, found("dog", 40, 0)], POSITION)[0]
    right, problem = judge([bear, found("dog", 0, 40)], POSITION)
    assert not right
    assert problem == "expected dog right of bear, found it below"
    assert judge([found("dog", 40, 0)], POSITION) == (False, "expected 1 bear, found 0; nothing for dog to be right of")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 0, 50, 10), {"right of"}),
        ((-40, 0, -30, 10), {"left of"}),
        ((0, 40, 10, 50), {"below"}),
        ((0, -40, 10, -30), {"above"}),
        ((40, 40, 50, 50), {"right of", "below"}),  # 38/56.6 = 0.67 of the distance along each axis
        ((40, 10, 50, 20), {"right of"}),  # 8/41 along y
        ((1, 0, 11, 10), set()),  # an offset of 1 is within 0.1 * (10 + 10)
        ((0, 0, 10, 10), set()),
    ],
)
def test_relations_by_hand(box: tuple[float, float, float, float], expected: set[str]) -> None:
    assert relations(box, (0, 0, 10, 10)) == expected


def test_a_wrong_prompt_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    good = {"tag": "single_object", "prompt": "a dog", "include": [{"class": "dog", "count": 1}]}
    bad = {"tag": "colour", "prompt": "a dog", "include": []}
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(ValueError, match=r"prompts.jsonl:2: unknown tag 'colour'"):
        read_prompts(path)
    path.write_text(
        json.dumps({**POSITION, "prompt": "p", "include": [{"class": "dog", "count": 1, "position": ["right of", 0]}]})
    )
    with pytest.raises(ValueError, match="earlier clause"):
        read_prompts(path)
