"""Text conversations for instruction tuning: JSON lines or a JSON list, in ShareGPT's or OpenAI's layout."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.conversations import conversation
from pipelines.reading.options import FileOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import Sample
from schemas.spec import Source

TASKS = ("text",)


def read(source: Source) -> Iterator[Item]:
    """One sample per conversation."""
    table = Table(source, options_of(source, FileOptions))

    def sample(row: Record) -> Sample:
        return Sample(task="text", key=row.key, messages=conversation(row))

    yield from samples(source, table.rows(), sample)
