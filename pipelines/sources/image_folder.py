"""A folder of images with captions: in one JSON-lines file, or in a text file beside each image.

    <path>/captions.jsonl   {"image": "cats/1.jpg", "caption": "A cat."}
or  <path>/cats/1.jpg + <path>/cats/1.txt

The fields of the JSON lines are options, so `metadata.jsonl` of the Hub (file_name, text) reads as well. A caption that
is a list gives its first entry: exact deduplication keeps one row per image anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, read_text, records, walk
from pipelines.reading.refs import IMAGE_SUFFIXES, inside, local_image, root_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class ImageFolderOptions(Options):
    """Options of `image_folder`."""

    captions: str = "captions.jsonl"
    """JSON-lines file, relative to the source's path. It must be there if any of these options is given; else, without
    it, each image needs a .txt of the same name."""
    image: str = "image"
    """Field with the image's path, relative to the folder of the JSON-lines file."""
    caption: str = "caption"
    """Field with the caption, or a list of captions."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per line of the captions file, or per image in order of their paths."""
    options = options_of(source, ImageFolderOptions)
    root = root_of(source)
    captions = inside(root, options.captions, f"source {source.name}: options.captions")
    if options.model_fields_set and not captions.is_file():
        raise SourceError(
            f"source {source.name}: options.captions: {captions}: no such file; correct the name, or leave all options "
            "out if each image has a .txt beside it"
        )
    pairs = _listed(captions, root, options) if captions.is_file() else _beside(root)
    for key, relative, caption, where in pairs:
        yield Sample(
            task=source.task,
            key=key,
            messages=(Message(role="caption", text=caption),),
            images=(local_image(root, relative, where),),
        )


def _listed(captions: Path, root: Path, options: ImageFolderOptions) -> Iterator[tuple[str, str, str, str]]:
    folder = captions.parent.relative_to(root)
    for record in records(captions, root):
        relative = (folder / record.text(options.image)).as_posix()
        yield record.key, relative, _caption(record, options.caption), record.where


def _caption(record: Record, field: str) -> str:
    value = record.data.get(field)
    if isinstance(value, list) and value:
        return record._replace(data={field: value[0]}).text(field)
    return record.text(field)


def _beside(root: Path) -> Iterator[tuple[str, str, str, str]]:
    for file in walk(root):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            text = file.with_suffix(".txt")
            if not text.is_file():
                raise SourceError(f"{file}: no caption: expected {text.name} beside it, or a captions.jsonl")
            relative = file.relative_to(root).as_posix()
            yield relative, relative, read_text(text).strip(), str(file)
