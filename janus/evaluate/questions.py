"""Questions about images with short answers: reading, asking and scoring them.

Files are JSON lines; `image` is relative to a folder given beside the file. `text` is the question.

| kind            | fields beside image and text                                       | right if                     |
|-----------------|--------------------------------------------------------------------|------------------------------|
| pope            | label: "yes" or "no" (arXiv 2305.10355, the benchmark's layout)    | exactly that word is said    |
| multiple_choice | choices: texts of A, B ... (also in text); answer: the right letter | that letter or text is said  |
| counting        | label: a number, in digits or as a word                            | that one number is said      |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from janus.evaluate import extract

Kind = Literal["pope", "multiple_choice", "counting"]
KINDS: tuple[Kind, ...] = ("pope", "multiple_choice", "counting")


@dataclass(frozen=True)
class Question:
    """One question about one image."""

    id: str
    image: str
    """File name, relative to the image folder."""
    text: str
    label: str
    """"yes"/"no", a letter, or a number in digits."""
    options: tuple[str, ...] = ()

    def prompt(self, form: str) -> str:
        """The question as put to the model; `form` is a pattern with {question}."""
        return form.replace("{question}", self.text)


def read_questions(path: Path, kind: Kind) -> list[Question]:
    """Read a file of questions. Raises ValueError naming file, line and what was expected."""
    questions = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            questions.append(_question(json.loads(line), kind, number))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}:{number}: not a {kind} question: {error!r}") from None
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    if not questions:
        raise ValueError(f"{path}: no questions in this file")
    return questions


def _question(row: dict[str, Any], kind: Kind, number: int) -> Question:
    options: tuple[str, ...] = ()
    if kind == "pope":
        label, expected = row["label"].strip().lower(), ["yes", "no"]
    elif kind == "multiple_choice":
        options = tuple(row["choices"])
        label, expected = row["answer"].strip(), [chr(ord("A") + index) for index in range(len(options))]
    else:
        value = extract.number(str(row["label"]))
        label, expected = (str(row["label"]), ["one number"]) if value is None else (str(value), [str(value)])
    if label not in expected:
        raise ValueError(f"right answer {label!r}: expected {' or '.join(expected)}")
    return Question(str(row.get("question_id", number)), row["image"], row["text"], label, options)


def read_answer(question: Question, kind: Kind, said: str) -> str | None:
    """What the model answered, in the form of `question.label`, or None if that cannot be told."""
    if kind == "pope":
        return extract.yes_no(said)
    if kind == "multiple_choice":
        return extract.choice(said, question.options)
    value = extract.number(said)
    return None if value is None else str(value)


def accuracy(labels: Sequence[str], answers: Sequence[str | None]) -> dict[str, float]:
    """Share of right answers, share that could not be read, and their number."""
    _same_length(labels, answers)
    return {
        "accuracy": sum(label == answer for label, answer in zip(labels, answers, strict=True)) / len(labels),
        "unreadable": sum(answer is None for answer in answers) / len(answers),
        "questions": len(labels),
    }


def pope_scores(labels: Sequence[str], answers: Sequence[str | None]) -> dict[str, float]:
    """Accuracy, precision, recall and F1 of "yes", and the share of yes answers.

    An unreadable answer is wrong for accuracy and counts as "not yes" for the others, as in VLMEvalKit.
    """
    scores = accuracy(labels, answers)
    pairs = list(zip(labels, answers, strict=True))
    hits = pairs.count(("yes", "yes"))
    said_yes = answers.count("yes")
    is_yes = labels.count("yes")
    precision = hits / said_yes if said_yes else 0.0
    recall = hits / is_yes if is_yes else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {**scores, "precision": precision, "recall": recall, "f1": f1, "yes_rate": said_yes / len(answers)}


def _same_length(labels: Sequence[str], answers: Sequence[str | None]) -> None:
    if len(labels) != len(answers) or not labels:
        raise ValueError(f"{len(labels)} labels and {len(answers)} answers: expected as many, and at least one")
