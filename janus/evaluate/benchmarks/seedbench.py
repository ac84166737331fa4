"""SEED-Bench (arXiv 2307.16125), image part: 14,233 multiple-choice questions in nine dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions


@dataclass(frozen=True)
class Benchmark(Questions):
    """SEED-Bench's image questions; the paper's 63.7 is their accuracy, as VLMEvalKit's SEEDBench_IMG."""

    questions: Path | None = None
    """SEED-Bench.json; usual place: DATA/seedbench/SEED-Bench.json."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/seedbench/SEED-Bench-image."""

    title: ClassVar[str] = "SEED-Bench (image)"

    def read(self, data: Path) -> list[Question]:
        """Questions whose data_type is image: those of dimensions 1 to 9."""
        (path,) = files.find("--seedbench.questions", self.questions, data, "seedbench/SEED-Bench.json")
        images = files.folder("--seedbench.images", self.images, data, "seedbench/SEED-Bench-image")
        content = files.load_json(path)
        try:
            rows, types = content["questions"], content["question_type"]
            names = {number: name for name, number in types.items()}
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"{path}: expected an object with questions and question_type") from None
        return files.made(path, enumerate(rows, 1), partial(_question, images, names), "SEED-Bench question")

    def split(self, data: Path) -> str:
        """The image part."""
        return "image part"


def _question(images: Path, names: Mapping[int, str], row: dict[str, Any], number: int) -> Question | None:
    if row["data_type"] != "image":
        return None
    options = {letter.upper(): str(row[f"choice_{letter}"]) for letter in "abcd"}
    if row["answer"] not in options:
        raise ValueError(f"right answer {row['answer']!r}: expected A, B, C or D")
    return Question(
        id=str(row["question_id"]),
        text=row["question"],
        pictures=[files.picture_in(images, str(row["data_id"]))],
        template="choice",
        answer=row["answer"],
        kind="choice",
        options=options,
        category=names[row["question_type_id"]],
    )
