"""MMStar (arXiv 2403.20330): 1,500 multiple-choice questions that cannot be answered without the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from janus.evaluate import files, kit_tsv
from janus.evaluate.benchmark import Question, Questions


@dataclass(frozen=True)
class Benchmark(Questions):
    """MMStar in VLMEvalKit's table."""

    table: Path | None = None
    """Table; usual place: DATA/mmstar/MMStar.tsv."""

    title: ClassVar[str] = "MMStar"

    def read(self, data: Path) -> list[Question]:
        """Ids are the table's index."""
        return kit_tsv.read_questions(
            files.find("--mmstar.table", self.table, data, "mmstar/MMStar.tsv")[0], "question"
        )

    def split(self, data: Path) -> str:
        """MMStar has one split, val."""
        return "val"
