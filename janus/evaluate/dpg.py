"""DPG-Bench (arXiv 2403.05135): questions about a long prompt; some make sense only if others are answered yes.

The rules are those of the benchmark's `compute_dpg_bench.py`: a question counts as no where one that it depends on
does, a picture's score is the share of yes, and the benchmark's the mean over pictures and prompts. Categories are
scored by the answers as they were given. Two things differ: the script drops the first row of its table, and takes only
the last picture of a grid for categories.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from janus.evaluate.benchmark import Drawn, Prompt
from janus.evaluate.extract import read_answer
from janus.evaluate.metrics import Metrics, Row, mean, ratio
from janus.evaluate.picture_sets import named
from schemas.files import atomic_file

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")


@dataclass(frozen=True)
class Proposition:
    """A question of a prompt."""

    number: int
    text: str
    parents: tuple[int, ...]
    """Numbers of the questions it depends on."""
    category: str
    """As the tuple begins: "attribute - color"."""

    @property
    def broad(self) -> str:
        """The first part of its category: "attribute"."""
        return self.category.partition("-")[0].strip()


@dataclass(frozen=True)
class Item:
    """A prompt with its questions."""

    name: str
    text: str
    questions: tuple[Proposition, ...]


def read_items(path: Path, prompts: Path | None) -> list[Item]:
    """The prompts of a table of questions, in its order.

    Args:
        path: `dpg_bench.csv`.
        prompts: folder of `<item_id>.txt`; the column `text` holds the prompts where there is none.

    Raises ValueError or FileNotFoundError naming file and row.
    """
    texts: dict[str, str] = {}
    questions: dict[str, dict[int, Proposition]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path}: no column {missing[0]!r}; expected DPG-Bench's table of questions")
        try:
            for row in reader:
                name = row["item_id"]
                texts.setdefault(name, row.get("text") or "")
                try:
                    one = _proposition(row)
                except (ValueError, AttributeError):
                    raise ValueError(
                        f"{path}:{reader.line_num}: expected numbers as proposition_id and dependency, found "
                        f"{row['proposition_id']!r} and {row['dependency']!r}"
                    ) from None
                questions.setdefault(name, {})[one.number] = one
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: not a row of a table: {error}") from None
    if not questions:
        raise ValueError(f"{path}: no questions in this file")
    return [_item(path, prompts, name, texts[name], found) for name, found in questions.items()]


def _proposition(row: Mapping[str, str]) -> Proposition:
    parents = tuple(int(part) for part in row["dependency"].split(","))
    category = row["tuple"].partition("(")[0].strip()
    text = row["question_natural_language"].strip()
    return Proposition(int(row["proposition_id"]), text, tuple(one for one in parents if one != 0), category)


def _item(path: Path, prompts: Path | None, name: str, text: str, questions: Mapping[int, Proposition]) -> Item:
    if name in ("", ".", "..") or name != Path(name).name:
        raise ValueError(f"{path}: item_id {name!r}: expected the name of a file")
    for one in questions.values():
        if unknown := [parent for parent in one.parents if parent not in questions]:
            raise ValueError(f"{path}: {name}: question {one.number} depends on {unknown[0]}, which is not there")
    if prompts is not None:
        file = prompts / f"{name}.txt"
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such prompt")
        text = file.read_text(encoding="utf-8")
    if not text.strip():
        raise ValueError(f"{path}: {name}: no prompt: neither a folder of prompts nor the column text")
    return Item(name, text.strip(), tuple(questions.values()))


def score(questions: Sequence[Proposition], yes: Sequence[bool]) -> tuple[float, list[bool]]:
    """The share of questions that count as yes, and which those are.

    A question that counts as no for its parents is a no for those that depend on it too, where it comes before them.
    """
    counted = {one.number: answer for one, answer in zip(questions, yes, strict=True)}
    for one in questions:
        if not all(counted[parent] for parent in one.parents):
            counted[one.number] = False
    return sum(counted.values()) / len(counted), list(counted.values())


def verdict(questions: Sequence[Proposition], said: Sequence[str]) -> dict[str, Any]:
    """What a judge's answers about a picture come to. What cannot be read as yes is no."""
    read = [read_answer("yes_no", answer, protocol="strict") for answer in said]
    yes = [answer == "yes" for answer in read]
    correct, counted = score(questions, yes)
    return {
        "correct": correct,
        "problem": "; ".join(one.text for one, answer in zip(questions, yes, strict=True) if not answer),
        "asked": len(read),
        "unreadable": read.count(None),
        "questions": [one.text for one in questions],
        "categories": [[one.broad, one.category] for one in questions],
        "said": list(said),
        "yes": yes,
        "counted": counted,
    }


def metrics(rows: Sequence[Row]) -> Metrics:
    """Scores of all pictures: `overall`, each category as it was answered, and the share of answers not read."""
    result: Metrics = {"overall": mean([row["correct"] for row in rows])}
    for level in (0, 1):
        for category in sorted({pair[level] for row in rows for pair in row["categories"]} - set(result)):
            yes, asked = [], []
            for row in rows:
                within = [
                    answer
                    for answer, pair in zip(row["yes"], row["categories"], strict=True)
                    if pair[level] == category
                ]
                yes.append(sum(within))
                asked.append(len(within))
            result[category] = ratio(yes, asked)
    return result | {"unreadable": ratio([row["unreadable"] for row in rows], [row["asked"] for row in rows])}


def in_grids(folder: Path, prompts: Sequence[Prompt], images_per_prompt: int) -> list[Drawn]:
    """The pictures of prompts in files named after their items: four in each, or one. Raises FileNotFoundError."""
    quadrants: Sequence[int | None] = range(4) if images_per_prompt == 4 else [None]
    found = []
    for prompt in prompts:
        name = prompt.metadata["item_id"]
        path = folder / named(folder, name)
        found += [Drawn(f"{name}/{quadrant or 0:04d}", prompt, path, quadrant) for quadrant in quadrants]
    return found


def write_grids(drawn: Sequence[Drawn], folder: Path) -> None:
    """`<item_id>.png`, as the benchmark's script takes them: the four pictures of a prompt two by two, or its only one.

    Files that are there already stay.
    """
    from PIL import Image

    by_item: dict[str, list[Drawn]] = {}
    for one in drawn:
        by_item.setdefault(one.prompt.metadata["item_id"], []).append(one)
    for name, pictures in by_item.items():
        path = folder / f"{name}.png"
        if path.is_file():
            continue
        images = [one.image() for one in pictures]
        side = images[0].width
        grid = Image.new("RGB", (side * min(len(images), 2), side * -(-len(images) // 2)))
        for place, image in enumerate(images):
            grid.paste(image, (side * (place % 2), side * (place // 2)))
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            grid.save(file, "PNG")
