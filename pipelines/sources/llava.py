"""Visual conversations in LLaVA's layout: a JSON list, JSON lines, or Parquet with the images in it.

    {"image": "coco/1.jpg",
     "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]}

`image` or `images` may be a list, OpenAI's `messages` and Docmatix's `texts` are understood too; in Parquet an image is
its bytes or a struct with them (LLaVA-OneVision, Mantis, Docmatix on the Hub). Mixtures such as LLaVA's 665k hold
text-only conversations among the visual ones. A source has one task, so describe such a file twice: as an understanding
source (the rows with images) and as a text source (those without).
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.conversations import conversation
from pipelines.reading.errors import SkipRow
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from schemas.reasons import Skip
from schemas.sample import ImageRef, Sample
from schemas.spec import Source

TASKS = ("understanding", "text")


def read(source: Source) -> Iterator[Item]:
    """One sample per conversation that fits the task: with images for understanding, without for text."""
    options = options_of(source, ImageOptions)
    table = Table(source, options)
    images = Images(source, table.gate, options.images)

    def sample(row: Record) -> Sample:
        found = images_of(row, images)
        if bool(found) != (source.task == "understanding"):
            raise SkipRow(Skip.OTHER_TASK)
        return Sample(task=source.task, key=row.key, messages=conversation(row, len(found)), images=found)

    yield from samples(source, table.rows(), sample)


def images_of(row: Record, images: Images) -> tuple[ImageRef, ...]:
    """The row's images, in order; none where it has no field for them."""
    field = next((name for name in ("image", "images") if row.data.get(name) is not None), None)
    return () if field is None else images.of(row, field)
