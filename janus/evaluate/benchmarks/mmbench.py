"""MMBench (arXiv 2307.06281): multiple choice over 20 abilities, each question asked with its options rotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from janus.evaluate import files, kit_tsv
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.metrics import Metrics, Row, accuracy, mean
from janus.evaluate.xlsx import write_xlsx

_ROTATION = 1_000_000
"""Rotations of a question have its index plus multiples of this."""


@dataclass(frozen=True)
class Benchmark(Questions):
    """MMBench in VLMEvalKit's table; a test table, which has no answers, gives submission.xlsx for its server.

    The paper's 69.4 is dev, English, *without* circular evaluation: every row counts alone (`accuracy`).
    """

    table: Path | None = None
    """Table; usual place: DATA/mmbench/MMBench_DEV_EN.tsv, or any one *.tsv there."""

    title: ClassVar[str] = "MMBench"

    def read(self, data: Path) -> list[Question]:
        """Rows by question, its rotations together."""
        questions = kit_tsv.read_questions(self._path(data), "MMBench question")
        for question in questions:
            if not question.id.isdecimal():
                raise ValueError(f"index {question.id!r}: expected a whole number")
        grouped = [replace(one, unit=str(int(one.id) % _ROTATION)) for one in questions]
        return sorted(grouped, key=lambda one: (int(one.unit), int(one.id)))

    def split(self, data: Path) -> str:
        """The name of the table says language, split and version."""
        return self._path(data).stem

    def _path(self, data: Path) -> Path:
        paths = files.find("--mmbench.table", self.table, data, "mmbench/MMBench_DEV_EN.tsv", "mmbench/*.tsv")
        if len(paths) > 1:
            raise ValueError(f"{len(paths)} tables in {paths[0].parent}; give one with --mmbench.table")
        return paths[0]

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """`accuracy`: every row alone, as VLMEvalKit with circular=False. `circular`: questions all of whose rotations
        are right. `first_rotation`: questions as they were written. Categories are those of `accuracy`.
        """
        result = accuracy(rows)
        first = np.array([row["id"] == row["unit"] for row in rows])
        if not first.all():
            failed = {row["unit"] for row in rows if row["correct"] < 1}
            circular = [row["unit"] not in failed for row in rows]
            result |= {"circular": mean(circular, first), "first_rotation": mean([r["correct"] for r in rows], first)}
            for name in sorted({row["category"] for row in rows} - {""}):
                result[f"{name} (circular)"] = mean(circular, first & [row["category"] == name for row in rows])
        return result

    def submission(self, rows: Sequence[Row], folder: Path) -> None:
        """submission.xlsx, as MMBench's server takes it: a row's question, options and what was said."""
        letters = sorted({letter for row in rows for letter in row["options"]})
        head = ["index", "question", *letters, "prediction"]
        content = (
            [int(row["id"]), row["question"], *(row["options"].get(letter, "") for letter in letters), row["said"]]
            for row in rows
        )
        write_xlsx(folder / "submission.xlsx", [head, *content])
