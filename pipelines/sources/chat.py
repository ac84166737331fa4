"""Text conversations for instruction tuning: JSON lines or a JSON list, in ShareGPT's or OpenAI's layout."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.conversations import conversation
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import files_of, records
from pipelines.reading.refs import root_of
from schemas.sample import Sample
from schemas.spec import Source

TASKS = ("text",)


def read(source: Source) -> Iterator[Sample]:
    """One sample per conversation."""
    options_of(source, Options)
    root = root_of(source)
    for file in files_of(source, (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")):
        for record in records(file, root):
            yield Sample(task="text", key=record.key, messages=conversation(record))
