"""MME (arXiv 2306.13394): two yes/no questions about each picture, in ten kinds of perception and four of cognition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from janus.evaluate import files
from janus.evaluate.benchmark import Picture, Question, Questions
from janus.evaluate.metrics import Metric, Metrics, Row, mean, total

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


@dataclass(frozen=True)
class Benchmark(Questions):
    """MME from its release folder. The paper's 1338.0 is `perception`."""

    folder: Path | None = None
    """MME_Benchmark_release_version; usual place: DATA/mme/MME_Benchmark_release_version, or DATA/mme."""

    title: ClassVar[str] = "MME"
    main: ClassVar[str] = "perception"
    percent: ClassVar[bool] = False

    def read(self, data: Path) -> list[Question]:
        """A folder per category: NAME.txt of two lines "question<TAB>Yes|No" beside NAME.jpg or .png, or in two folders
        questions_answers_YN and images.
        """
        names = ("mme/MME_Benchmark_release_version", "mme")
        root = files.folder("--mme.folder", self.folder, data, *names)
        questions = [
            question
            for category in (*PERCEPTION, *COGNITION)
            for path in _texts(root / category)
            for question in _questions(category, path)
        ]
        if not questions:
            raise ValueError(f"{root}: none of MME's categories is there: {', '.join((*PERCEPTION, *COGNITION))}")
        return questions

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Per category, accuracy and accuracy+ (both questions of a picture right), each times 100, added; the sums of
        those of perception (2,000 at most) and cognition (800); and `accuracy` over all questions.
        """
        correct = np.array([row["correct"] for row in rows], float)
        both: dict[str, bool] = {}
        for row in rows:
            both[row["unit"]] = both.get(row["unit"], True) and row["correct"] == 1
        pairs = np.array([both[row["unit"]] for row in rows], float)
        scores: dict[str, Metric] = {}
        for name in (*PERCEPTION, *COGNITION):
            own = np.array([row["category"] == name for row in rows])
            if own.any():
                scores[name] = mean(correct, own) * 100 + mean(pairs, own) * 100
        sums = {"perception": PERCEPTION, "cognition": COGNITION}
        found = {title: [scores[name] for name in names if name in scores] for title, names in sums.items()}
        unreadable = mean([row["read"] is None for row in rows])
        summed = {title: total(parts) for title, parts in found.items() if parts}
        return {**summed, **scores, "accuracy": mean(correct), "unreadable": unreadable}


def _texts(folder: Path) -> list[Path]:
    inner = folder / "questions_answers_YN"
    return sorted((inner if inner.is_dir() else folder).glob("*.txt"))


def _questions(category: str, path: Path) -> Iterator[Question]:
    images = path.parent.parent / "images" if path.parent.name == "questions_answers_YN" else path.parent
    found = [image for ending in (".jpg", ".png", ".jpeg") if (image := images / f"{path.stem}{ending}").is_file()]
    if not found:
        raise FileNotFoundError(f"{images / path.stem}: no .jpg or .png of this name, which {path} asks about")
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        text, tab, label = line.rstrip("\r").rpartition("\t")
        label = label.strip().lower()
        if not tab or label not in ("yes", "no"):
            raise ValueError(f"{path}:{number}: expected a question, a tab, and Yes or No")
        unit = f"{category}/{path.stem}"
        picture = Picture(f"{category}/{found[0].name}", found[0].read_bytes)
        yield Question(
            f"{unit}/{number}", text.strip(), [picture], "yes_no", label, "yes_no", {}, category=category, unit=unit
        )
