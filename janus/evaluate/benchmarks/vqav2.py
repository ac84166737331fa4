"""VQAv2 (arXiv 1612.00837): open questions about COCO pictures, each with the answers of ten people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol
from janus.evaluate.metrics import Row
from janus.evaluate.open_answers import vqa_accuracy
from janus.evaluate.store import write_json


@dataclass(frozen=True)
class Benchmark(Questions):
    """VQAv2: accuracy where there are annotations, and the file for the challenge's server in any case.

    The paper's 77.3 is of the test server.
    """

    questions: Path | None = None
    """Usual place: DATA/vqav2/v2_OpenEnded_mscoco_*_questions.json, one file."""
    annotations: Path | None = None
    """Answers of people, where published; usual place: DATA/vqav2/v2_mscoco_<split>_annotations.json."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/coco/<split>, val2014 or test2015."""

    title: ClassVar[str] = "VQAv2"
    protocols: ClassVar[dict[str, str]] = {"vlmevalkit": "vqa-challenge", "strict": "vqa-challenge"}

    def read(self, data: Path) -> list[Question]:
        """Questions in the order of the file; categories are the answer types (yes/no, number, other)."""
        path, split = self._path(data), self.split(data)
        pictures = "test2015" if split.startswith("test") else split
        images = files.folder("--vqav2.images", self.images, data, f"coco/{pictures}", pictures)
        answered = self.annotations or path.with_name(f"v2_mscoco_{split}_annotations.json")
        known: dict[Any, dict[str, Any]] = {}
        if answered.is_file() or self.annotations is not None:
            rows = _list(answered, "annotations")
            known = dict(files.made(answered, enumerate(rows, 1), _annotation, "VQA annotation"))
        make = partial(_question, images, f"COCO_{pictures}", known)
        return files.made(path, enumerate(_list(path, "questions"), 1), make, "VQA question")

    def split(self, data: Path) -> str:
        """From the file's name: val2014, test-dev2015, test2015."""
        return self._path(data).stem.removeprefix("v2_OpenEnded_mscoco_").removesuffix("_questions")

    def _path(self, data: Path) -> Path:
        paths = files.find("--vqav2.questions", self.questions, data, "vqav2/v2_OpenEnded_mscoco_*_questions.json")
        if len(paths) > 1:
            raise ValueError(f"{len(paths)} files of questions in {paths[0].parent}; give one with --vqav2.questions")
        return paths[0]

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """VQA accuracy; every answer counts as read."""
        answers = question.facts["answers"]
        return {"read": said, "correct": vqa_accuracy(said, answers) if answers else None}

    def submission(self, rows: Sequence[Row], folder: Path) -> None:
        """submission.json, as the challenge's server takes it."""
        write_json(folder / "submission.json", [{"question_id": int(row["id"]), "answer": row["said"]} for row in rows])


def _list(path: Path, field: str) -> list[Any]:
    content = files.load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(field), list):
        raise ValueError(f"{path}: expected an object with a list {field!r}")
    return content[field]


def _annotation(row: dict[str, Any], number: int) -> tuple[Any, dict[str, Any]]:
    return row["question_id"], {"answers": [one["answer"] for one in row["answers"]], "type": row["answer_type"]}


def _question(
    images: Path, prefix: str, known: dict[Any, dict[str, Any]], row: dict[str, Any], number: int
) -> Question:
    identity = int(row["question_id"])
    if known and identity not in known:
        raise ValueError(f"question {identity} has no annotation")
    about = known.get(identity, {"answers": [], "type": ""})
    picture = files.picture_in(images, f"{prefix}_{int(row['image_id']):012d}.jpg")
    most = max(about["answers"], key=about["answers"].count, default=None)
    facts = {"answers": about["answers"]}
    return Question(str(identity), row["question"], [picture], "short", most, category=about["type"], facts=facts)
