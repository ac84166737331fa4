"""Visual conversations in LLaVA's layout: a JSON list, JSON lines, or Parquet with the image in it.

    {"image": "coco/1.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]}

`image` may be a list, `images` and OpenAI's `messages` are understood too; in Parquet (LLaVA-OneVision on the Hub) it
is a struct with the bytes. Mixtures such as LLaVA's 665k hold text-only
conversations among the visual ones. A source has one task, so describe such a file twice: as an understanding source
(the rows with images) and as a text source (those without).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.conversations import conversation
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, as_text, files_of, records
from pipelines.reading.refs import cell_image, image_at, root_of
from schemas.sample import ImageRef, Sample
from schemas.spec import Source

TASKS = ("understanding", "text")
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")


class LlavaOptions(Options):
    """Options of `llava` and `sharegpt4v`."""

    file: str | None = None
    """The file, relative to the source's path, if that is a folder. Without it: every file of these kinds below."""
    images: str = ""
    """Folder that image paths start in, relative to the source's path (or to the folder of the file it names)."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per conversation that fits the task: with images for understanding, without for text."""
    options = options_of(source, LlavaOptions)
    root = root_of(source)
    for record in conversation_records(source, options):
        images = images_of(record, root, options)
        if bool(images) == (source.task == "understanding"):
            yield Sample(task=source.task, key=record.key, messages=conversation(record), images=images)


def conversation_records(source: Source, options: LlavaOptions) -> Iterator[Record]:
    """Rows of the source's files, in order."""
    root = root_of(source)
    for file in files_of(source, SUFFIXES, options.file):
        yield from records(file, root)


def images_of(record: Record, root: Path, options: LlavaOptions) -> tuple[ImageRef, ...]:
    """The row's images, in order."""
    field = "image" if "image" in record.data else "images"
    value = record.data.get(field)
    if value is None:
        return ()
    if isinstance(value, dict):
        return (cell_image(record.file, field, record.row, value, record.where),)
    places = value if isinstance(value, list) else [value]
    return tuple(
        image_at(root, as_text(place, f"{record.where}: {field}"), record.where, options.images) for place in places
    )
