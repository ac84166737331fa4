"""How-many questions of your own, a JSON line each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import read_answer


@dataclass(frozen=True)
class Benchmark(Questions):
    """Lines {"image", "text", "label": "3" or "three"}; right is an answer that names this number and no other."""

    questions: Path | None = None
    """File of questions; usual place: DATA/counting.jsonl."""
    images: Path | None = None
    """Folder of the pictures; usual place: beside the questions."""

    title: ClassVar[str] = "counting"

    def read(self, data: Path) -> list[Question]:
        """Ids are `question_id`, or else the line."""
        (path,) = files.find("--counting.questions", self.questions, data, "counting.jsonl")
        images = files.folder("--counting.images", self.images, data, otherwise=path.parent)

        def make(row: dict[str, Any], number: int) -> Question:
            label = read_answer("number", str(row["label"]), protocol="strict")
            if label is None:
                raise ValueError(f"right answer {row['label']!r}: expected one number")
            picture = files.picture_in(images, row["image"])
            identity, category = str(row.get("question_id", number)), row.get("category", "")
            return Question(identity, row["text"], [picture], "short", label, "number", category=category)

        return files.rows(path, make, "counting question")
