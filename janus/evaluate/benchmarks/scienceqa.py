"""ScienceQA-IMG (arXiv 2209.09513): the school science questions that come with a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions


@dataclass(frozen=True)
class Benchmark(Questions):
    """ScienceQA's test questions with a picture, their hint before them."""

    problems: Path | None = None
    """Usual place: DATA/scienceqa/problems.json."""
    images: Path | None = None
    """Folder of the test pictures, <id>/image.png; usual place: DATA/scienceqa/images/test, or DATA/scienceqa/test."""

    title: ClassVar[str] = "ScienceQA-IMG"

    def read(self, data: Path) -> list[Question]:
        """An object of id to {question, choices, answer (from 0), hint, image, split, subject}."""
        (path,) = files.find("--scienceqa.problems", self.problems, data, "scienceqa/problems.json")
        images = files.folder("--scienceqa.images", self.images, data, "scienceqa/images/test", "scienceqa/test")
        content = files.load_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected an object of id to question")
        return files.made(path, content.items(), partial(_question, images), "ScienceQA question with a picture")

    def split(self, data: Path) -> str:
        """The test split."""
        return "test, with picture"


def _question(images: Path, row: dict[str, Any], identity: str) -> Question | None:
    if row["split"] != "test" or not row["image"]:
        return None
    options = files.letters(row["choices"])
    return Question(
        id=identity,
        text=row["question"],
        pictures=[files.picture_in(images, f"{identity}/{row['image']}")],
        template="choice",
        answer=list(options)[row["answer"]],
        kind="choice",
        options=options,
        hint=row.get("hint") or "",
        category=row.get("subject", ""),
    )
