"""A toy model on disk and a few benchmark files, for tests of whole evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from janus.model.checkpoints.model_folder import save_janus
from tests.model.toy import toy_janus

OBJECTS = ("snowboard", "car", "dog", "bench with a long name that makes a longer prompt", "cup")


def write_model(folder: Path, seed: int = 0, **evaluation: Any) -> Path:
    """A toy Janus with random weights."""
    model, processor = toy_janus(seed)
    model.config.evaluation = {"max_new_tokens": 4, **evaluation}
    save_janus(folder, model, processor)
    return folder


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_data(data: Path, pictures: int = 6) -> Path:
    """POPE (two splits), counting questions and GenEval prompts about plain pictures."""
    data.mkdir(parents=True, exist_ok=True)
    names = [f"{index}.png" for index in range(pictures)]
    (data / "val2014").mkdir()
    for index, name in enumerate(names):
        image = Image.new("RGB", (64, 50 + index), (40 * index % 256, 90, 200))
        image.save(data / name)
        image.save(data / "val2014" / name)
    for split, kept in (("random", OBJECTS[:3]), ("popular", OBJECTS[1:])):
        rows = [
            {"image": name, "text": f"Is there a {thing} in the image?", "label": "yes" if len(thing) % 2 else "no"}
            for name in names
            for thing in kept
        ]
        write_lines(data / "pope" / f"coco_pope_{split}.json", rows)
    write_lines(data / "counting.jsonl", [{"image": name, "text": "how many?", "label": 2} for name in names])
    prompts = [("single_object", "a circle"), ("counting", "a circle"), ("single_object", "a red square in a corner")]
    write_lines(
        data / "geneval" / "evaluation_metadata.jsonl",
        [{"tag": tag, "prompt": text, "include": [{"class": "circle", "count": 1}]} for tag, text in prompts],
    )
    return data
