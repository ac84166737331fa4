from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from janus.evaluate.benchmarks import pope
from janus.evaluate.metrics import Metric
from tests.evaluate.worlds import write_lines

SPLITS = ("adversarial", "popular", "random")


def rows(labels: list[str], read: list[str | None], splits: list[list[str]] | None = None) -> list[dict[str, Any]]:
    splits = splits or [["random"]] * len(labels)
    return [
        {"answer": label, "read": said, "read_by_pope": said or "yes", "splits": kept}
        for label, said, kept in zip(labels, read, splits, strict=True)
    ]


def values(found: list[dict[str, Any]]) -> dict[str, float]:
    scores = pope.Benchmark().metrics(found)
    return {name: score.value for name, score in scores.items() if isinstance(score, Metric)}


def test_scores_by_hand() -> None:
    # 10 questions: 5 yes, 5 no. Said: 4 yes (3 of them right), 5 no (4 right), one unreadable on a yes question.
    labels = ["yes"] * 5 + ["no"] * 5
    found = values(rows(labels, ["yes", "yes", "yes", "no", None, "yes", "no", "no", "no", "no"]))
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx(3 / 5)
    assert found["f1"] == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert found["yes_rate"] == pytest.approx(4 / 10)
    assert found["unreadable"] == pytest.approx(1 / 10)
    # POPE's own script takes the unreadable answer for yes.
    assert found["accuracy (POPE's own reading)"] == pytest.approx(8 / 10)
    assert found["f1 (POPE's own reading)"] == pytest.approx(2 * 4 / (5 + 5))


def test_a_mute_model_scores_nothing_and_one_that_always_says_yes_two_thirds() -> None:
    mute = values(rows(["yes", "no"], [None, None]))
    assert (mute["accuracy"], mute["precision"], mute["recall"], mute["f1"]) == (0, 0, 0, 0)
    eager = values(rows(["yes", "no"] * 50, ["yes"] * 100))
    assert (eager["accuracy"], eager["recall"], eager["precision"]) == (0.5, 1.0, 0.5)
    assert eager["f1"] == pytest.approx(2 / 3)


def test_splits_and_the_whole_equal_a_count_of_the_exploded_rows() -> None:
    """As VLMEvalKit's rating: a question of several splits is a row in each, and the whole is over all rows."""
    dice = random.Random(0)
    found = []
    for _ in range(400):
        splits = dice.sample(SPLITS, dice.randint(1, 3))
        found += rows([dice.choice(["yes", "no"])], [dice.choice(["yes", "yes", "no", None])], [splits])
    scores = values(found)
    for split, prefix in [(None, ""), *((split, f"{split} ") for split in SPLITS)]:
        exploded = [row for row in found for name in row["splits"] if split in (None, name)]
        true = sum(row["answer"] == row["read"] == "yes" for row in exploded)
        false = sum(row["answer"] == "no" and row["read"] == "yes" for row in exploded)
        missed = sum(row["answer"] == "yes" and row["read"] != "yes" for row in exploded)
        precision, recall = true / (true + false), true / (true + missed)
        assert round(scores[f"{prefix}f1"], 4) == round(2 * precision * recall / (precision + recall), 4)
        assert round(scores[f"{prefix}precision"], 4) == round(precision, 4)
        assert round(scores[f"{prefix}recall"], 4) == round(recall, 4)
        accuracy = sum(row["answer"] == row["read"] for row in exploded) / len(exploded)
        assert round(scores[f"{prefix}accuracy"], 4) == round(accuracy, 4)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("No.", "no"), ("There is not", "no"), ("Yes. No.", "yes"), ("no, never", "no"), ("", "yes"), ("NO", "yes")],
)
def test_popes_own_reading(said: str, expected: str) -> None:
    assert pope.pope_rule(said) == expected


def test_reads_the_benchmark_itself(shared_data: Path, tmp_path: Path) -> None:
    benchmark = pope.Benchmark(questions=shared_data / "benchmarks/pope/coco_pope_random.json", images=tmp_path)
    questions = benchmark.read(tmp_path)
    assert sum(len(question.facts["splits"]) for question in questions) == 3000
    assert questions[0].text == "Is there a snowboard in the image?"
    assert questions[0].pictures[0].name == "COCO_val2014_000000310196.jpg"
    assert {split for question in questions for split in question.facts["splits"]} == {"random"}
    assert len({question.pictures[0].name for question in questions}) == 500  # the benchmark's number of pictures
    assert benchmark.split(tmp_path) == "coco_pope_random"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"image": "x", "text": "?", "label": "maybe"}, "q.jsonl:1: right answer 'maybe': expected yes or no"),
        ({"image": "x", "label": "yes"}, "q.jsonl:1: not a POPE question: no field 'text'"),
        (["yes"], "q.jsonl:1: not a POPE question: expected an object, found str"),
        ({"image": "../x", "text": "?", "label": "yes"}, "expected a name below the image folder"),
        ({"image": "/etc/passwd", "text": "?", "label": "yes"}, "expected a name below the image folder"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write_lines(tmp_path / "q.jsonl", [{"image": "x", "text": "?", "label": "yes"}])
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=complaint.replace("?", r"\?")):
        pope.Benchmark(questions=path).read(tmp_path)


def test_contradicting_answers_and_empty_files_are_refused(tmp_path: Path) -> None:
    good = {"image": "x", "text": "?", "label": "yes"}
    path = write_lines(tmp_path / "q.jsonl", [good, {**good, "label": "no"}])
    benchmark = pope.Benchmark(questions=path)
    with pytest.raises(ValueError, match="has two right answers"):
        benchmark.read(tmp_path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="no POPE question in this file"):
        replace(benchmark, questions=path).read(tmp_path)
