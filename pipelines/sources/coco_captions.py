"""COCO captions: the official annotation file beside the folder of images.

    <path>/annotations/captions_train2017.json   {"images": [...], "annotations": [{"image_id", "caption"}], ...}
    <path>/train2017/000000000009.jpg

One sample per image with its first caption (by annotation id): exact deduplication keeps one row per image, so the
other four would only be dropped. The licence is the one the file names for the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record, short, text_records
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, condition_of, samples
from pipelines.reading.tables import those_that_hold
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class CocoOptions(ImageOptions):
    """Options of `coco_captions`."""

    annotations: str = "annotations/captions_train2017.json"
    """Annotation file, relative to the source's path."""
    images: str = "train2017"


def read(source: Source) -> Iterator[Item]:
    """One sample per image, in order of the image ids."""
    options = options_of(source, CocoOptions)
    gate = gate_of(source)
    file = gate.path(options.annotations, f"source {source.name}: options.annotations")
    if not gate.is_file(file):
        raise SourceError(f"{file}: no such annotation file (options.annotations)")
    captions = _first_captions(file, gate)
    licences = {row.data.get("id"): row.text("name") for row in _rows(file, gate, "licenses")}
    images = Images(source, gate, options.images)

    def sample(row: Record) -> Sample:
        number = _number(row, "id")
        return Sample(
            task=source.task,
            key=str(number),
            messages=(Message(role="caption", text=captions.get(number, (0, ""))[1]),),
            images=(images.at(row.text("file_name"), row.where),),
            licence=licences.get(row.data.get("license")),
        )

    rows = sorted(_rows(file, gate, "images"), key=lambda row: -1 if row.problem else _number(row, "id"))
    yield from samples(source, those_that_hold(rows, condition_of(source)), sample)


def _first_captions(file: Path, gate: Gate) -> dict[int, tuple[int, str]]:
    """Image id to the id and text of its caption with the lowest id."""
    captions: dict[int, tuple[int, str]] = {}
    for row in _rows(file, gate, "annotations"):
        image, caption = _number(row, "image_id"), (_number(row, "id"), row.text("caption").strip())
        if image not in captions or caption[0] < captions[image][0]:
            captions[image] = caption
    return captions


def _rows(file: Path, gate: Gate, table: str) -> Iterator[Record]:
    try:
        yield from text_records(file, gate, None, rows=table, json_lines=False)
    except SourceError as error:
        if table != "licenses" or "no field" not in str(error):
            raise


def _number(row: Record, field: str) -> int:
    if row.problem is not None:
        raise row.problem
    value = row.data.get(field)
    if not isinstance(value, int):
        raise RowError(f"{row.where}: {field}: expected a number, found {short(value)}")
    return value
