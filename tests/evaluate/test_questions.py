from __future__ import annotations

import json
from pathlib import Path

import pytest

from janus.evaluate.questions import Question, accuracy, pope_scores, read_answer, read_questions


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_reads_the_pope_benchmark_itself(shared_data: Path) -> None:
    questions = read_questions(shared_data / "benchmarks" / "pope" / "coco_pope_random.json", "pope")
    assert len(questions) >= 2900
    assert questions[0] == Question("1", "COCO_val2014_000000310196.jpg", "Is there a snowboard in the image?", "yes")
    assert {question.label for question in questions} == {"yes", "no"}
    assert len({question.image for question in questions}) == 500  # the benchmark's number of pictures


def test_pope_scores_by_hand() -> None:
    # 10 questions: 5 yes, 5 no. Said: 4 yes (3 of them right), 5 no (3 right), one unreadable on a yes question.
    labels = ["yes", "yes", "yes", "yes", "yes", "no", "no", "no", "no", "no"]
    answers = ["yes", "yes", "yes", "no", None, "yes", "no", "no", "no", "no"]
    scores = pope_scores(labels, answers)
    assert scores["accuracy"] == pytest.approx(7 / 10)
    assert scores["precision"] == pytest.approx(3 / 4)
    assert scores["recall"] == pytest.approx(3 / 5)
    assert scores["f1"] == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert scores["yes_rate"] == pytest.approx(4 / 10)
    assert scores["unreadable"] == pytest.approx(1 / 10)


def test_pope_scores_of_a_mute_model_are_zero() -> None:
    scores = pope_scores(["yes", "no"], [None, None])
    assert (scores["accuracy"], scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0, 0)


def test_always_yes_has_full_recall_and_half_the_accuracy() -> None:
    scores = pope_scores(["yes", "no"] * 50, ["yes"] * 100)
    assert (scores["accuracy"], scores["recall"], scores["precision"]) == (0.5, 1.0, 0.5)
    assert scores["f1"] == pytest.approx(2 / 3)


def test_accuracy_needs_as_many_answers_as_labels() -> None:
    with pytest.raises(ValueError, match="2 labels and 1 answers"):
        accuracy(["A", "B"], ["A"])


def test_multiple_choice_is_scored_by_letter_or_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "choice.jsonl",
        {"question_id": 7, "image": "x.jpg", "text": "Colour? A red B blue", "choices": ["red", "blue"], "answer": "B"},
    )
    (question,) = read_questions(path, "multiple_choice")
    assert question.prompt("{question}\nOne letter.") == "Colour? A red B blue\nOne letter."
    assert read_answer(question, "multiple_choice", "B.") == "B"
    assert read_answer(question, "multiple_choice", "blue") == "B"
    assert read_answer(question, "multiple_choice", "red") == "A"


@pytest.mark.parametrize("label", [3, "3", "three"])
def test_counting_labels_may_be_digits_or_words(tmp_path: Path, label: int | str) -> None:
    path = write(tmp_path / "count.jsonl", {"image": "x.jpg", "text": "How many?", "label": label})
    (question,) = read_questions(path, "counting")
    assert (question.label, question.id) == ("3", "1")
    assert read_answer(question, "counting", "There are three.") == "3"
    assert read_answer(question, "counting", "three or four") is None


@pytest.mark.parametrize(
    ("kind", "row", "complaint"),
    [
        ("pope", {"image": "x", "text": "?", "label": "maybe"}, "q.jsonl:1: right answer 'maybe': expected yes or no"),
        ("pope", {"image": "x", "label": "yes"}, "q.jsonl:1: not a pope question"),
        ("pope", ["yes"], "q.jsonl:1: not a pope question"),
        ("counting", {"image": "x", "text": "?", "label": "few"}, "'few': expected one number"),
        ("multiple_choice", {"image": "x", "text": "?", "choices": ["a"], "answer": "B"}, "'B': expected A"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, kind: str, row: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_questions(write(tmp_path / "q.jsonl", row), kind)  # type: ignore[arg-type]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no questions"):
        read_questions(write(tmp_path / "q.jsonl"), "pope")
