"""POPE (arXiv 2305.10355): is an object in the picture? Yes or no; random, popular and adversarial objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol
from janus.evaluate.metrics import Metrics, Row, mean, ratio


@dataclass(frozen=True)
class Benchmark(Questions):
    """POPE, all splits that have a file: the same question of several splits is asked once."""

    questions: Path | None = None
    """File of questions, or the folder of the three; usual place: DATA/pope/coco_pope_*.json, or DATA/pope.jsonl."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/coco/val2014, or beside the questions."""

    title: ClassVar[str] = "POPE"
    main: ClassVar[str] = "f1"

    def read(self, data: Path) -> list[Question]:
        """Rows are {"image", "text", "label"}; the split is the row's "category" or the end of the file's name."""
        paths = self._paths(data)
        places = ("coco/val2014", "val2014")
        images = files.folder("--pope.images", self.images, data, *places, otherwise=paths[0].parent)
        found: dict[str, Question] = {}
        for path in paths:
            for one in files.rows(path, partial(_question, images, path.stem.rpartition("_")[2]), "POPE question"):
                before = found.setdefault(one.id, replace(one, category="", facts={"splits": []}))
                if before.answer != one.answer:
                    raise ValueError(f"{path}: {one.id!r} has two right answers")
                before.facts["splits"].append(one.category)
        return list(found.values())

    def split(self, data: Path) -> str:
        """The three splits, or the one file's name."""
        return ", ".join(path.stem for path in self._paths(data))

    def _paths(self, data: Path) -> list[Path]:
        return files.find("--pope.questions", self.questions, data, "pope/*_pope_*.json", "pope.jsonl")

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """Also what POPE's own script reads."""
        return {**super().mark(question, said, protocol), "read_by_pope": pope_rule(said)}

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Of all splits together, and of each: F1, accuracy, precision, recall of "yes", share of yes.

        A question of two splits counts in both, so the whole is that of the splits' rows, as in VLMEvalKit.
        """
        splits = sorted({split for row in rows for split in row["splits"]})
        counts = {f"{split} ": [float(row["splits"].count(split)) for row in rows] for split in splits}
        every = {"": [float(len(row["splits"])) for row in rows]}
        result: Metrics = {}
        for prefix, count in {**every, **(counts if len(splits) > 1 else {})}.items():
            result |= {f"{prefix}{name}": score for name, score in _scores(rows, count, "read").items()}
            own = _scores(rows, count, "read_by_pope")
            result |= {f"{prefix}{name} (POPE's own reading)": own[name] for name in ("f1", "accuracy")}
        return {**result, "unreadable": mean([row["read"] is None for row in rows])}


def _question(images: Path, split: str, row: dict[str, Any], number: int) -> Question:
    label = row["label"].strip().lower()
    if label not in ("yes", "no"):
        raise ValueError(f"right answer {label!r}: expected yes or no")
    # VLMEvalKit's file asks for yes or no in the question, and its Janus takes that out again.
    text = row["text"].replace(" Please answer yes or no.", "")
    picture, category = files.picture_in(images, row["image"]), row.get("category", split)
    return Question(f"{picture.name} {text}", text, [picture], "yes_no", label, "yes_no", category=category)


def _scores(rows: Sequence[Row], count: Sequence[float], key: str) -> Metrics:
    """Scores of "yes" by one way of reading; row `i` counts `count[i]` times. Unreadable is wrong, and not yes."""
    times, right = np.array(count), np.array([row["answer"] == row[key] for row in rows])
    is_yes = times * [row["answer"] == "yes" for row in rows]
    said_yes = times * [row[key] == "yes" for row in rows]
    hits = is_yes * right
    return {
        "f1": ratio(2 * hits, said_yes + is_yes),
        "accuracy": ratio(times * right, times),
        "precision": ratio(hits, said_yes),
        "recall": ratio(hits, is_yes),
        "yes_rate": ratio(said_yes, times),
    }


def pope_rule(said: str) -> str:
    """POPE's own script: no if "No", "no" or "not" is a word of the first sentence, else yes."""
    words = said.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"
