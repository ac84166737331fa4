"""COCO captions: the official annotation file beside the folder of images.

    <path>/annotations/captions_train2017.json   {"images": [...], "annotations": [{"image_id", "caption"}], ...}
    <path>/train2017/000000000009.jpg

One sample per image with its first caption (by annotation id): exact deduplication keeps one row per image, so the
other four would only be dropped. The licence is the one the file names for the image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, read_text
from pipelines.reading.refs import inside, local_image, root_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class CocoOptions(Options):
    """Options of `coco_captions`."""

    annotations: str = "annotations/captions_train2017.json"
    """Annotation file, relative to the source's path."""
    images: str = "train2017"
    """Folder of the images, relative to the source's path."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per image, in order of the image ids."""
    options = options_of(source, CocoOptions)
    root = root_of(source)
    file = inside(root, options.annotations, f"source {source.name}: options.annotations")
    tables = _load(file)
    captions: dict[int, str] = {}
    for annotation in sorted(_rows(tables, "annotations", file), key=lambda row: _number(row, "id")):
        captions.setdefault(_number(annotation, "image_id"), annotation.text("caption").strip())
    licences = {row.data.get("id"): row.text("name") for row in _rows(tables, "licenses", file)}
    for image in sorted(_rows(tables, "images", file), key=lambda row: _number(row, "id")):
        number = _number(image, "id")
        yield Sample(
            task=source.task,
            key=str(number),
            messages=(Message(role="caption", text=captions.get(number, "")),),
            images=(local_image(root, f"{options.images}/{image.text('file_name')}", image.where),),
            licence=licences.get(image.data.get("license")),
        )


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SourceError(f"{file}: no such annotation file (options.annotations)")
    try:
        tables = json.loads(read_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise SourceError(f"{file}: not JSON ({error}); is the file cut short?") from None
    if not isinstance(tables, dict):
        raise SourceError(f"{file}: expected a JSON object with images and annotations")
    return tables


def _rows(tables: dict[str, Any], name: str, file: Path) -> list[Record]:
    rows = tables.get(name, [] if name == "licenses" else None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(f"{file}: {name}: expected a list of objects")
    return [Record(f"{file}: {name}[{index}]", "", row) for index, row in enumerate(rows)]


def _number(row: Record, field: str) -> int:
    value = row.data.get(field)
    if not isinstance(value, int):
        raise SourceError(f"{row.where}: {field}: expected a number, found {value!r}")
    return value
