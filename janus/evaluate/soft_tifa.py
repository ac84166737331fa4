"""Soft-TIFA (arXiv 2512.16853): a picture's score is how likely a VQA model finds the right answers about it.

Files, questions and means are as in the README of GenEval 2. Its script was not at hand: the words after a question
and the spellings of an answer that count are those of public programs that say they follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from janus.evaluate import files
from janus.evaluate.benchmark import Drawn, Prompt
from janus.evaluate.metrics import Metrics, Row, mean, ratio

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_LEAST = 1e-300
"""What a probability of zero counts as: a geometric mean has a logarithm in it."""


def read_prompt(row: dict[str, Any], number: int) -> Prompt:
    """A line of the benchmark: a prompt with pairs of question and answer, and the skill that each of them needs."""
    pairs = [[str(part) for part in pair] for pair in row["vqa_list"]]
    skills = [str(skill) for skill in row["skills"]]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError("vqa_list: expected pairs of question and answer")
    if len(skills) != len(pairs):
        raise ValueError(f"{len(skills)} skills for {len(pairs)} questions")
    about = {"atom_count": int(row["atom_count"]), "vqa_list": pairs, "skills": skills}
    return Prompt(row["prompt"], metadata=about)


def spellings(question: str, answer: str) -> list[str]:
    """What counts as the answer: in lower case and with a capital, after a blank or not, and numbers as digits too."""
    words = [answer.lower(), answer.capitalize()]
    if question.startswith("How many") and answer.lower() in _NUMBERS:
        words.append(str(_NUMBERS.index(answer.lower())))
    return [blank + word for word in words for blank in ("", " ")]


def verdict(prompt: Prompt, sure: Sequence[float]) -> dict[str, Any]:
    """What the probabilities of the right answers about a picture come to."""
    about = prompt.metadata
    worst = min(range(len(sure)), key=sure.__getitem__)
    question, answer = about["vqa_list"][worst]
    return {
        "correct": geometric_mean(sure),
        "problem": f"least sure: {question} {answer} ({sure[worst]:.2f})",
        "atoms": about["atom_count"],
        "skills": about["skills"],
        "probabilities": list(sure),
    }


def geometric_mean(values: Sequence[float]) -> float:
    """Of probabilities."""
    return math.exp(sum(math.log(max(value, _LEAST)) for value in values) / len(values))


def metrics(rows: Sequence[Row]) -> Metrics:
    """Scores of all pictures: `soft_tifa_gm` and `soft_tifa_am`, and their analyses per skill and number of atoms."""
    gm = [row["correct"] for row in rows]
    am = [sum(row["probabilities"]) / len(row["probabilities"]) for row in rows]
    result: Metrics = {"soft_tifa_gm": mean(gm), "soft_tifa_am": mean(am)}
    for skill in sorted({skill for row in rows for skill in row["skills"]}):
        sums, counts = [], []
        for row in rows:
            within = [p for p, its in zip(row["probabilities"], row["skills"], strict=True) if its == skill]
            sums.append(sum(within))
            counts.append(len(within))
        result[skill] = ratio(sums, counts)
    for atoms in sorted({row["atoms"] for row in rows}):
        result[f"{atoms} atoms"] = mean(gm, [row["atoms"] == atoms for row in rows])
    return result


def read_pictures(path: Path, prompts: Sequence[Prompt]) -> list[Drawn]:
    """The picture of each prompt: what the benchmark's script takes, a JSON object of prompt to path.

    Paths are read from the file's folder and must lie below it.

    Raises ValueError or FileNotFoundError naming the file and the prompt.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--geneval2.pictures {path}: no such file or folder")
    content = files.load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object of prompt to path of its picture")
    root = path.absolute().parent.resolve()
    found = []
    for index, prompt in enumerate(prompts):
        name = content.get(prompt.text)
        if not isinstance(name, str):
            raise ValueError(f"{path}: no path of a picture of {prompt.text!r}")
        picture = (root / name).resolve()
        if not picture.is_relative_to(root):
            raise ValueError(f"{path}: {prompt.text!r}: {name} does not lie below {root}")
        found.append(Drawn(f"{index:05d}/0000", prompt, picture))
    return found
