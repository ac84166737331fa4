"""The part of the world that training never sees: scenes with questions, in the layouts of real benchmarks.

images/*.png             the pictures, lossless
scenes.jsonl             what they show
pope.jsonl               yes/no, POPE layout (arXiv 2305.10355): random, popular and adversarial negatives
choice.jsonl             multiple choice, options A to D
counting.jsonl           "how many ...?"
prompts.jsonl            GenEval metadata (arXiv 2310.11513), a line per picture to sample
novel_*.jsonl            the same with colour-shape pairs no training picture shows
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from demo.world import prompts
from demo.world.dice import Dice
from demo.world.draw import draw
from demo.world.questions import LETTERS, absent_pairs, asks_for, choice, count, mixed_pairs
from demo.world.scene import Scene, make_scene

PER_CATEGORY = 40
"""Pictures per GenEval category."""


def write(out: Path, seed: int, scenes: int) -> None:
    """Write the held-out part with `scenes` scenes of trained pairs and `scenes` novel ones."""
    (out / "images").mkdir(parents=True)
    shown: list[dict[str, Any]] = []
    for split, prefix in (("heldout", ""), ("novel", "novel_")):
        pictures = {f"{split}-{index:04d}.png": make_scene(seed, split, index) for index in range(scenes)}  # type: ignore[arg-type]
        for name, scene in pictures.items():
            Image.fromarray(draw(scene)).save(out / "images" / name)
            shown.append({"image": f"images/{name}", "split": split, **asdict(scene)})
        named = [(f"images/{name}", scene, Dice("questions", seed, name)) for name, scene in pictures.items()]
        _jsonl(out / f"{prefix}pope.jsonl", _pope(named))
        _jsonl(out / f"{prefix}choice.jsonl", _choice(named))
        _jsonl(out / f"{prefix}counting.jsonl", _counting(named))
    _jsonl(out / "scenes.jsonl", shown)
    _jsonl(out / "prompts.jsonl", prompts.evaluation_prompts(PER_CATEGORY))
    _jsonl(out / "novel_prompts.jsonl", [entry for entry in prompts.NOVEL_PROMPTS for _ in range(PER_CATEGORY // 4)])


_Named = Sequence[tuple[str, Scene, Dice]]
"""Path of the picture, what it shows, dice for its questions."""


def _pope(named: _Named) -> list[dict[str, Any]]:
    """One present and one absent pair per picture and category, so that "yes" is right half the time.

    Negatives: random = any absent pair; popular = the absent pair shown most often in these pictures; adversarial =
    colour and shape both present on different objects where there is such a pair, else sharing one of them.
    """
    shown = Counter(pair for _, scene, _ in named for pair in {item.pair for item in scene.objects})
    rows: list[dict[str, Any]] = []
    for image, scene, dice in named:
        absent = absent_pairs(scene)
        negatives = {
            "random": dice.choice(absent),
            "popular": max(absent, key=lambda pair: shown[pair]),
            "adversarial": dice.choice(mixed_pairs(scene) or _similar(scene, absent)),
        }
        for category, negative in negatives.items():
            positive = dice.choice(scene.objects).pair
            for pair, label in ((positive, "yes"), (negative, "no")):
                question = asks_for(pair, label)
                rows.append({"image": image, "text": question.text, "label": label, "category": category})
    return _numbered(rows)


def _similar(scene: Scene, absent: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Absent pairs with a colour or a shape of the scene."""
    return [p for p in absent if any(p[0] == o.color or p[1] == o.shape for o in scene.objects)]


def _choice(named: _Named) -> list[dict[str, Any]]:
    """One multiple-choice question per picture that allows one."""
    rows = []
    for image, scene, dice in named:
        question = next((q for _ in range(8) if (q := choice(scene, dice))), None)
        if question is not None:
            letter = LETTERS[question.options.index(question.answer)]
            rows.append({"image": image, "text": question.text, "choices": question.options, "answer": letter})
    return _numbered(rows)


def _counting(named: _Named) -> list[dict[str, Any]]:
    """One counting question per picture."""
    questions = [(image, count(scene, dice)) for image, scene, dice in named]
    return _numbered([{"image": image, "text": q.text, "label": q.answer} for image, q in questions])


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"question_id": number, **row} for number, row in enumerate(rows, start=1)]


def _jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
