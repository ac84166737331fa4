"""MM-Vet (arXiv 2308.02490): 218 open questions that need several abilities at once, judged by a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from janus.evaluate import files
from janus.evaluate.benchmark import Question, Questions
from janus.evaluate.extract import Protocol
from janus.evaluate.judge import Judge
from janus.evaluate.metrics import Metrics, Row, accuracy, mean
from janus.evaluate.store import write_json

SYSTEM = (
    "You are a helpful assistant. Please answer truthfully and write out your thinking step by step to be sure you get "
    "the right answer."
)
"""System prompt of the authors' reproduction."""
ABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
_ASK = """Grade an answer to a question about a picture that you cannot see. The reference lists what a right answer
says: <AND> joins things that must all be there, <OR> separates alternatives. Reply with one number from 0.0 (nothing of
it) to 1.0 (all of it), in steps of 0.1, and nothing else.

Question: {question}
Reference: {answer}
Answer: {said}
Grade:"""


@dataclass(frozen=True)
class Benchmark(Questions):
    """MM-Vet: answers.json for its own evaluator (GPT-4), which gave the paper's 34.3; or grades by a judge of yours
    and our prompt, which is another protocol.
    """

    questions: Path | None = None
    """Usual place: DATA/mmvet/mm-vet.json."""
    images: Path | None = None
    """Folder of the pictures; usual place: DATA/mmvet/images."""
    judge_url: str = ""
    """OpenAI-style endpoint that grades, e.g. http://127.0.0.1:8000/v1; its key is read from JANUS_JUDGE_KEY."""
    judge_model: str = ""
    """Name of the model there."""

    title: ClassVar[str] = "MM-Vet"

    @property
    def protocols(self) -> dict[str, str]:  # type: ignore[override]
        """Named after the judge: grades of two judges are not to be compared."""
        name = f"graded by {self.judge_model}, our prompt" if self.judge_url else "not graded"
        return {"vlmevalkit": name, "strict": name}

    def read(self, data: Path) -> list[Question]:
        """An object of id to {imagename, question, answer, capability}."""
        if bool(self.judge_url) != bool(self.judge_model):
            raise ValueError("a judge is --mmvet.judge-url and --mmvet.judge-model; one of them is missing")
        (path,) = files.find("--mmvet.questions", self.questions, data, "mmvet/mm-vet.json")
        images = files.folder("--mmvet.images", self.images, data, "mmvet/images")
        content = files.load_json(path)
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected an object of id to question")
        return files.made(path, content.items(), partial(_question, images), "MM-Vet question")

    def mark(self, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
        """The judge's grade; none without a judge."""
        if not self.judge_url:
            return {"read": said, "correct": None}
        prompt = _ASK.format(question=question.text, answer=question.answer, said=said)
        reply = Judge(self.judge_url, self.judge_model).ask(prompt)
        found = re.search(r"(?<![\d.])(?:0(?:\.\d+)?|1(?:\.0+)?)(?![\d.]*\d)", reply)
        return {"read": reply if found else None, "correct": float(found[0]) if found else 0.0}

    def metrics(self, rows: Sequence[Row]) -> Metrics:
        """Mean grade, over all questions and over those that need each ability."""
        grades = [row["correct"] for row in rows]
        by_ability = {one: [one in row["capability"] for row in rows] for one in ABILITIES}
        return {**accuracy(rows), **{name: mean(grades, where) for name, where in by_ability.items() if any(where)}}

    def submission(self, rows: Sequence[Row], folder: Path) -> None:
        """answers.json, as MM-Vet's evaluator reads it."""
        write_json(folder / "answers.json", {row["id"]: row["said"] for row in rows})


def _question(images: Path, row: dict[str, Any], identity: str) -> Question:
    picture = files.picture_in(images, row["imagename"])
    facts = {"capability": list(row["capability"])}
    return Question(identity, row["question"], [picture], "free", row["answer"], system=SYSTEM, facts=facts)
