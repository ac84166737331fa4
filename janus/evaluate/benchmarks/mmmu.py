"""MMMU (arXiv 2311.16502): college questions of 30 subjects with up to seven pictures, multiple choice and open."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import extract, files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol
from janus.evaluate.open_answers import mmmu_open_right


@dataclass(frozen=True)
class Benchmark(Questions):
    """MMMU's validation split; the paper's 30.5 is its accuracy.

    Pictures come before the text, whose marks "<image 1>" stay, as in the authors' reproduction. An open question is
    right, by VLMEvalKit, if its answer alone is named among it and "Other Answers"; strict, by MMMU's own rules.
    """

    folder: Path | None = None
    """Folder of the subjects' folders, or one Parquet file; usual place: DATA/mmmu."""

    title: ClassVar[str] = "MMMU"
    protocols: ClassVar[dict[str, str]] = {"vlmevalkit": "vlmevalkit", "strict": "strict; open questions: mmmu"}

    def read(self, data: Path) -> list[Question]:
        """Rows of <subject>/validation-*.parquet."""
        paths = files.find(
            "--mmmu.folder", self.folder, data, "mmmu/*/validation-*.parquet", "mmmu/validation-*.parquet"
        )
        return [question for path in paths for question in files.rows(path, _question, "MMMU question")]

    def split(self, data: Path) -> str:
        """The validation split."""
        return "val"

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """Choices as everywhere; open questions by the protocol's own rule."""
        if question.kind is not None:
            return super().mark(question, said, protocol)
        answers = question.facts["answers"]
        if protocol == "strict":
            return {"read": said, "correct": float(mmmu_open_right(said, answers))}
        # VLMEvalKit's table holds several answers as the text of a Python list.
        whole = answers[0] if len(answers) == 1 else str(answers)
        read = extract.read_answer("choice", said, {"A": whole, "B": "Other Answers"}, protocol=protocol)
        return {"read": read and said, "correct": float(read == "A")}


def _question(row: dict[str, Any], number: int) -> Question:
    identity, kind = row["id"], row["question_type"]
    pictures = [
        files.picture_from_bytes(row[f"image_{place}"], f"{identity}, image {place}")
        for place in range(1, 8)
        if row.get(f"image_{place}") is not None
    ]
    subject = identity.partition("_")[2].rpartition("_")[0].replace("_", " ")
    if kind == "multiple-choice":
        options, answer = files.letters(_list(row["options"], "options")), row["answer"]
        if answer not in options:
            raise ValueError(f"right answer {answer!r}: expected {' or '.join(options)}")
        return Question(identity, row["question"], pictures, "choice", answer, "choice", options, category=subject)
    if kind != "open":
        raise ValueError(f"question_type {kind!r}: expected multiple-choice or open")
    answers = _list(row["answer"], "answer") if row["answer"].startswith("[") else [row["answer"]]
    facts = {"answers": answers}
    return Question(identity, row["question"], pictures, "direct", answers[0], category=subject, facts=facts)


def _list(text: str, field: str) -> list[str]:
    """A Python list of texts that stands in a table as text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list) or not value:
        raise ValueError(f"{field} {text[:60]!r}: expected the text of a Python list")
    return [str(one) for one in value]
