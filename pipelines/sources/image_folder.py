"""A folder of images with captions: in files of rows, or in a text file beside each image.

    <path>/captions.jsonl   {"image": "cats/1.jpg", "caption": "A cat."}
or  <path>/cats/1.jpg + <path>/cats/1.txt

The names of the fields are options, so `metadata.jsonl` of the Hub (file_name, text) reads as well. Image paths are
relative to the folder of the file that names them, or to `images`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipelines.reading.account import Skipped
from pipelines.reading.captions import CaptionOptions, CaptionReader
from pipelines.reading.errors import SkipRow, SourceError
from pipelines.reading.files import walk
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of
from pipelines.reading.join import stem
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import IMAGE_SUFFIXES, OTHER_IMAGES, Images
from pipelines.reading.rows import Item, Table, condition_of, samples
from pipelines.reading.tables import those_that_hold
from schemas.reasons import Skip
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")
DEFAULT = "captions.jsonl"


class ImageFolderOptions(CaptionOptions, ImageOptions):
    """Options of `image_folder`. `files` names the files of captions; without it, captions.jsonl is used if there is
    one, else each image has a .txt of the same name."""

    image: str = "image"
    """Field with the image's path."""


def read(source: Source) -> Iterator[Item]:
    """One sample per row of the caption files, or per image in order of their paths."""
    options = options_of(source, ImageFolderOptions)
    gate = gate_of(source)
    if options.files or Path(source.path).is_file():
        yield from _listed(source, options, Table(source, options).files())
    elif gate.is_file(gate.root / DEFAULT):
        yield from _listed(source, options, [gate.root / DEFAULT])
    elif options.model_fields_set - {"exclude", "clean", "join"}:
        raise SourceError(
            f"source {source.name}: {gate.root / DEFAULT}: no such file; name the files of captions in "
            "options.files, or leave all options out if each image has a .txt beside it"
        )
    else:
        yield from _beside(source, options, gate)


def _listed(source: Source, options: ImageFolderOptions, files: list[Path]) -> Iterator[Item]:
    table = Table(source, options)
    captions, images = CaptionReader(source, options, table.gate), Images(source, table.gate, options.images)
    for file in files:
        folder = "" if options.images else PurePosixPath(table.gate.relative(file)).parent.as_posix()

        def sample(row: Record, folder: str = folder) -> Sample:
            place = row.text(options.image)
            row.data.setdefault("__key__", stem(place))
            return _sample(source, row, captions.of(row), images.at(place, row.where, folder))

        yield from samples(source, table.rows_of(file), sample)


def _beside(source: Source, options: ImageFolderOptions, gate: Gate) -> Iterator[Item]:
    captions = CaptionReader(source, options.model_copy(update={"caption": "txt"}), gate)
    images, condition = Images(source, gate), condition_of(source)

    def sample(row: Record) -> Sample:
        if options.join is None:
            text = (gate.root / row.key).with_suffix(".txt")
            if not gate.is_file(text):
                raise SkipRow(Skip.NO_CAPTION)
            row.data["txt"] = gate.read_text(text)
        return _sample(source, row, captions.of(row), images.at(row.key, row.where))

    def found() -> Iterator[Record | Skipped]:
        for file in walk(gate, gate.root, options.exclude):
            path = gate.relative(file)
            if file.suffix.lower() in IMAGE_SUFFIXES:
                yield from those_that_hold([Record(str(file), path, {"__key__": stem(path)})], condition)
            elif file.suffix.lower() in OTHER_IMAGES:
                yield Skipped(Skip.UNSUPPORTED_FORMAT, 1, str(file))

    yield from samples(source, found(), sample)


def _sample(source: Source, row: Record, caption: str, image: ImageRef) -> Sample:
    messages = (Message(role="caption", text=caption),)
    return Sample(task=source.task, key=row.key, messages=messages, images=(image,))
