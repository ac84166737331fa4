"""AI2D (arXiv 1603.07396): multiple choice about diagrams of primary-school science."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from janus.evaluate import files, kit_tsv
from janus.evaluate.benchmark import Question, Questions


@dataclass(frozen=True)
class Benchmark(Questions):
    """AI2D test in VLMEvalKit's table."""

    table: Path | None = None
    """Table; usual place: DATA/ai2d/AI2D_TEST.tsv."""

    title: ClassVar[str] = "AI2D"

    def read(self, data: Path) -> list[Question]:
        """Ids are the table's index."""
        return kit_tsv.read_questions(self._path(data), "AI2D question")

    def split(self, data: Path) -> str:
        """AI2D_TEST, or AI2D_TEST_NO_MASK: labels in the diagram replaced by letters, or not."""
        return self._path(data).stem

    def _path(self, data: Path) -> Path:
        return files.find("--ai2d.table", self.table, data, "ai2d/AI2D_TEST.tsv")[0]
