"""Multiple-choice questions of your own, a JSON line each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions


@dataclass(frozen=True)
class Benchmark(Questions):
    """Lines {"image", "text", "choices": [...], "answer": "B"}; text holds the choices, as the model is to see them."""

    questions: Path | None = None
    """File of questions; usual place: DATA/multiple_choice.jsonl."""
    images: Path | None = None
    """Folder of the pictures; usual place: beside the questions."""

    title: ClassVar[str] = "multiple choice"

    def read(self, data: Path) -> list[Question]:
        """Ids are `question_id`, or else the line."""
        (path,) = files.find(
            "--multiple-choice.questions", self.questions, data, "multiple_choice.jsonl", "choice.jsonl"
        )
        images = files.folder("--multiple-choice.images", self.images, data, otherwise=path.parent)

        def make(row: dict[str, Any], number: int) -> Question:
            options, answer = files.letters(row["choices"]), row["answer"].strip()
            if answer not in options:
                raise ValueError(f"right answer {answer!r}: expected {' or '.join(options)}")
            picture = files.picture_in(images, row["image"])
            return Question(
                id=str(row.get("question_id", number)),
                text=row["text"],
                pictures=[picture],
                template="choice",
                answer=answer,
                kind="choice",
                options=options,
                listed=True,
                category=row.get("category", ""),
            )

        return files.rows(path, make, "multiple-choice question")
