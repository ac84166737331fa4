"""Is the picture upright? Asked about the pictures of two folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions

ANSWERS = {"upright": "yes", "turned": "no"}


@dataclass(frozen=True)
class Benchmark(Questions):
    """Yes-or-no questions about the pictures in FOLDER/upright and FOLDER/turned."""

    folder: Path | None = None
    """Folder of the two; usual place: DATA/photos."""

    title = "Upright"

    def read(self, data: Path) -> list[Question]:
        """One question per picture."""
        folder = files.folder("--upright.folder", self.folder, data, "photos")
        names = [f"{kind}/{path.name}" for kind in ANSWERS for path in sorted((folder / kind).iterdir())]
        return [self._question(folder, name) for name in names]

    def _question(self, folder: Path, name: str) -> Question:
        kind = name.partition("/")[0]
        return Question(
            id=name,
            text="Is this picture upright?",
            pictures=[files.picture_in(folder, name)],
            template="yes_no",  # how it is put: janus.evaluate.prompts
            kind="yes_no",  # how its answer is read: janus.evaluate.extract
            answer=ANSWERS[kind],
            category=kind,
        )
