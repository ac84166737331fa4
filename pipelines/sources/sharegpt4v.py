"""ShareGPT4V captions (stages I and II): LLaVA's layout with one question and one long answer, which is the caption.

The questions ("What do you see happening in this image?" and the like) are left out: the paper's stage I trains on
`<image><text>`, and the template of stage II asks its own question.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.conversations import conversation
from pipelines.reading.errors import SourceError
from pipelines.reading.options import options_of
from pipelines.reading.refs import root_of
from pipelines.sources.llava import LlavaOptions, conversation_records, images_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("understanding", "generation")


def read(source: Source) -> Iterator[Sample]:
    """One sample per image. Raises SourceError for a row that is no question with one answer about one image."""
    options = options_of(source, LlavaOptions)
    root = root_of(source)
    for record in conversation_records(source, options):
        messages, images = conversation(record), images_of(record, root, options)
        if [message.role for message in messages] != ["user", "assistant"] or len(images) != 1:
            raise SourceError(
                f"{record.where}: expected one image, one question and one answer, found {len(images)} images and "
                f"{len(messages)} turns; read conversations with format llava"
            )
        yield Sample(
            task=source.task,
            key=record.key,
            messages=(Message(role="caption", text=messages[1].text.strip()),),
            images=images,
        )
