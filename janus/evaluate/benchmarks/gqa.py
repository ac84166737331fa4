"""GQA (arXiv 1902.09506): open questions about relations and attributes, answered in a word or two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol


@dataclass(frozen=True)
class Benchmark(Questions):
    """GQA's balanced test-dev. Right is the very answer, upper and lower case alike."""

    questions: Path | None = None
    """Usual place: DATA/gqa/testdev_balanced_questions.json."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/gqa/images."""

    title: ClassVar[str] = "GQA"
    protocols: ClassVar[dict[str, str]] = {
        "vlmevalkit": "vlmevalkit",
        "strict": "strict: a full stop at the end is cut",
    }

    def read(self, data: Path) -> list[Question]:
        """An object of id to {imageId, question, answer, types}."""
        path = self._path(data)
        images = files.folder("--gqa.images", self.images, data, "gqa/images")
        content = files.load_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected an object of id to question")

        def make(row: dict[str, Any], identity: str) -> Question:
            picture = files.picture_in(images, f"{row['imageId']}.jpg")
            kind = (row.get("types") or {}).get("structural", "")
            return Question(identity, row["question"], [picture], "short", row["answer"], category=kind)

        return files.made(path, content.items(), make, "GQA question")

    def split(self, data: Path) -> str:
        """The file's name: testdev_balanced_questions."""
        return self._path(data).stem

    def _path(self, data: Path) -> Path:
        return files.find("--gqa.questions", self.questions, data, "gqa/testdev_balanced_questions.json")[0]

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """Exact match; every answer counts as read."""
        assert question.answer is not None
        read = said.strip().lower()
        if protocol == "strict":
            read = read.rstrip(".")
        return {"read": read, "correct": float(read == question.answer.strip().lower())}
