"""Visual conversations in LLaVA's layout, one JSON list or JSON lines.

    {"image": "coco/1.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]}

`image` may be a list, `images` and OpenAI's `messages` are understood too. Mixtures such as LLaVA's 665k hold text-only
conversations among the visual ones. A source has one task, so describe such a file twice: as an understanding source
(the rows with images) and as a text source (those without).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.sources.conversations import conversation
from pipelines.sources.options import Options, options_of
from pipelines.sources.records import Record, as_text, files_of, records
from pipelines.sources.refs import image_at, root_of
from schemas.sample import Sample
from schemas.spec import Source

TASKS = ("understanding", "text")


class LlavaOptions(Options):
    """Options of `llava` and `sharegpt4v`."""

    file: str | None = None
    """The JSON file, relative to the source's path, if that is a folder. Without it: every JSON file below."""
    images: str = ""
    """Folder that image paths start in, relative to the source's path (or to the folder of the file it names)."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per conversation that fits the task: with images for understanding, without for text."""
    options = options_of(source, LlavaOptions)
    root = root_of(source)
    for record in conversation_records(source, options):
        places = image_places(record)
        if bool(places) == (source.task == "understanding"):
            yield Sample(
                task=source.task,
                key=record.key,
                messages=conversation(record),
                images=tuple(image_at(root, place, record.where, options.images) for place in places),
            )


def conversation_records(source: Source, options: LlavaOptions) -> Iterator[Record]:
    """Rows of the source's JSON files, in order."""
    root = root_of(source)
    for file in files_of(source, (".json", ".jsonl", ".json.gz", ".jsonl.gz"), options.file):
        yield from records(file, root)


def image_places(record: Record) -> list[str]:
    """Paths or addresses of the row's images, in order."""
    value = record.data.get("image", record.data.get("images"))
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [as_text(place, f"{record.where}: image") for place in values]
