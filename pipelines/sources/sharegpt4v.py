"""ShareGPT4V captions (stages I and II): LLaVA's layout with one question and one long answer, which is the caption.

The questions ("What do you see happening in this image?" and the like) are left out: the paper's stage I trains on
`<image><text>`, and the template of stage II asks its own question.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.conversations import conversation
from pipelines.reading.errors import RowError
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from pipelines.sources.llava import images_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("understanding", "generation")


def read(source: Source) -> Iterator[Item]:
    """One sample per image. A row that is no question with one answer about one image is a failed one."""
    options = options_of(source, ImageOptions)
    table = Table(source, options)
    images = Images(source, table.gate, options.images)

    def sample(row: Record) -> Sample:
        messages, found = conversation(row), images_of(row, images)
        if [message.role for message in messages] != ["user", "assistant"] or len(found) != 1:
            raise RowError(
                f"{row.where}: expected one image, one question and one answer, found {len(found)} images and "
                f"{len(messages)} turns; read conversations with format llava"
            )
        caption = (Message(role="caption", text=messages[1].text.strip()),)
        return Sample(task=source.task, key=row.key, messages=caption, images=found)

    yield from samples(source, table.rows(), sample)
