"""TextVQA (arXiv 1904.08920): questions about text in pictures, each with the answers of ten people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol
from janus.evaluate.open_answers import vqa_accuracy


@dataclass(frozen=True)
class Benchmark(Questions):
    """TextVQA's validation split, by VQA accuracy, without text that an OCR system read."""

    questions: Path | None = None
    """Usual place: DATA/textvqa/TextVQA_0.5.1_val.json."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/textvqa/train_images."""

    title: ClassVar[str] = "TextVQA"
    protocols: ClassVar[dict[str, str]] = {"vlmevalkit": "vqa-challenge", "strict": "vqa-challenge"}

    def read(self, data: Path) -> list[Question]:
        """The list `data` of {question_id, image_id, question, answers}."""
        (path,) = files.find("--textvqa.questions", self.questions, data, "textvqa/TextVQA_0.5.1_val.json")
        images = files.folder("--textvqa.images", self.images, data, "textvqa/train_images")
        content = files.load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("data"), list):
            raise ValueError(f"{path}: expected an object with a list 'data'")
        return files.made(path, enumerate(content["data"], 1), partial(_question, images), "TextVQA question")

    def split(self, data: Path) -> str:
        """The validation split."""
        return "val"

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """VQA accuracy; every answer counts as read."""
        return {"read": said, "correct": vqa_accuracy(said, question.facts["answers"])}


def _question(images: Path, row: dict[str, Any], number: int) -> Question:
    answers = list(row["answers"])
    picture = files.picture_in(images, f"{row['image_id']}.jpg")
    most = max(answers, key=answers.count)
    return Question(str(row["question_id"]), row["question"], [picture], "short", most, facts={"answers": answers})
