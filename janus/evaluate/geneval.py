"""GenEval (arXiv 2310.11513): does an image hold the objects, counts, colours and positions its prompt asks for?

Prompts come in the benchmark's own metadata layout (`evaluation_metadata.jsonl`):

    {"tag": "position", "prompt": "a photo of a dog right of a teddy bear",
     "include": [{"class": "teddy bear", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}]}

Any detector that turns an image into `Detection`s can judge; the rules below are those of the benchmark's
`evaluate_images.py`, its quirks included: only the `count` most confident objects of a class are looked at, an object
more than asked for is an error only where `exclude` says so, and 0.9 confidence is asked for when counting.
The score is the mean of the six task accuracies over images, not the accuracy over all images (`summary_scores.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")

THRESHOLD = 0.3
"""Least confidence of a detection ..."""
COUNTING_THRESHOLD = 0.9
"""... and in prompts that count."""
MAX_OBJECTS = 16
"""Most detections kept per class."""
POSITION_THRESHOLD = 0.1
"""Overlap forgiven in relative position, as a share of the two objects' sizes."""


@dataclass(frozen=True)
class Detection:
    """One object found in an image."""

    name: str
    """Class name, as prompts use it."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, pixels."""
    confidence: float = 1.0
    color: str | None = None
    """Colour name, for detectors that see it."""


class Detector(Protocol):
    """Finds objects in images. `detect` takes uint8[S, S, 3]."""

    def detect(self, image: np.ndarray) -> list[Detection]:
        """All objects of `image`, in any order."""
        ...


@dataclass(frozen=True)
class Prompt:
    """One line of the metadata file."""

    tag: str
    text: str
    metadata: Mapping[str, Any]


def read_prompts(path: Path) -> list[Prompt]:
    """Read a GenEval metadata file. Raises ValueError naming file, line and what was expected."""
    prompts = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path}:{number}"
        try:
            metadata = json.loads(line)
            prompt = Prompt(metadata["tag"], metadata["prompt"], metadata)
            _check(metadata)
        except (json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{where}: not a line of GenEval metadata (tag, prompt, include): {error!r}") from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"{path}: no prompts in this file")
    return prompts


def _check(metadata: Mapping[str, Any]) -> None:
    if metadata["tag"] not in TASKS:
        raise ValueError(f"unknown tag {metadata['tag']!r}; expected one of {', '.join(TASKS)}")
    for index, wanted in enumerate(metadata["include"]):
        if not isinstance(wanted["class"], str) or not isinstance(wanted["count"], int):
            raise ValueError("every include clause needs a class (text) and a count (integer)")
        if "position" in wanted:
            relation, target = wanted["position"]
            if relation not in RELATIONS or not 0 <= target < index:
                raise ValueError(f"position {wanted['position']!r}: expected a relation and an earlier clause's number")


def relations(box: Sequence[float], other: Sequence[float]) -> set[str]:
    """Where `box` lies relative to `other`: a subset of RELATIONS, empty if neither direction is clear.

    The offset of the centres is first shortened by POSITION_THRESHOLD of both objects' sizes; what remains must make
    up more than half of the distance.
    """
    offset = [(box[axis] + box[axis + 2] - other[axis] - other[axis + 2]) / 2 for axis in (0, 1)]
    sizes = [abs(box[axis + 2] - box[axis]) + abs(other[axis + 2] - other[axis]) for axis in (0, 1)]
    shortened = [
        math.copysign(max(abs(part) - POSITION_THRESHOLD * size, 0.0), part)
        for part, size in zip(offset, sizes, strict=True)
    ]
    if all(abs(part) < 1e-3 for part in shortened):
        return set()
    dx, dy = (part / math.hypot(*offset) for part in shortened)
    checks = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {relation for relation, holds in checks.items() if holds}


def judge(detections: Iterable[Detection], metadata: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the objects satisfy the prompt, and in a few words what is wrong if not."""
    threshold = COUNTING_THRESHOLD if metadata["tag"] == "counting" else THRESHOLD
    objects: dict[str, list[Detection]] = {}
    for found in sorted(detections, key=lambda one: -one.confidence):
        same = objects.setdefault(found.name, [])
        if found.confidence > threshold and len(same) < MAX_OBJECTS:
            same.append(found)

    problems: list[str] = []
    groups: list[list[Detection] | None] = []  # per include clause: its objects, None where the clause failed
    for wanted in metadata.get("include", ()):
        name, count = wanted["class"], wanted["count"]
        group = objects.get(name, [])[:count]
        problem = None
        if len(group) < count:
            problem = f"expected {count} {name}, found {len(group)}"
        elif "color" in wanted and (colors := [one.color for one in group]).count(wanted["color"]) < count:
            problem = f"expected {wanted['color']} {name}, found {', '.join(color or 'no colour' for color in colors)}"
        elif "position" in wanted:
            problem = _misplaced(name, group, wanted["position"], groups)
        if problem:
            problems.append(problem)
        groups.append(None if problem else group)
    for unwanted in metadata.get("exclude", ()):
        if (found_count := len(objects.get(unwanted["class"], []))) >= unwanted["count"]:
            problems.append(f"expected fewer than {unwanted['count']} {unwanted['class']}, found {found_count}")
    return not problems, "; ".join(problems)


def _misplaced(
    name: str, group: list[Detection], position: Sequence[Any], groups: list[list[Detection] | None]
) -> str | None:
    relation, target_index = position
    targets = groups[target_index]
    if targets is None:
        return f"nothing for {name} to be {relation}"
    for one in group:
        for target in targets:
            seen = relations(one.box, target.box)
            if relation not in seen:
                return f"expected {name} {relation} {target.name}, found it {' and '.join(sorted(seen)) or 'level'}"
    return None


def scores(verdicts: Iterable[tuple[str, bool]]) -> dict[str, float]:
    """Accuracy per task over images, and `overall`: the mean of the tasks' accuracies.

    Args:
        verdicts: (tag, correct) of every image.

    Raises:
        ValueError: without any verdict.
    """
    by_task: dict[str, list[bool]] = {}
    for tag, correct in verdicts:
        by_task.setdefault(tag, []).append(correct)
    if not by_task:
        raise ValueError("no images were judged")
    accuracy = {task: sum(by_task[task]) / len(by_task[task]) for task in TASKS if task in by_task}
    return {**accuracy, "overall": sum(accuracy.values()) / len(accuracy)}
