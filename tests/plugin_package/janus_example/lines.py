"""Folders of text files with one document per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.reading.options import Options, options_of
from pipelines.sources import SourceError
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("text",)


class LinesOptions(Options):
    """Options of `lines`."""

    suffix: str = ".txt"
    """Of the files to read."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per line that is not blank, file by file in order of their names."""
    options = options_of(source, LinesOptions)
    files = sorted(Path(source.path).glob(f"*{options.suffix}"))
    if not files:
        raise SourceError(f"source {source.name}: {source.path}: no {options.suffix} files")
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                document = Message(role="document", text=line)
                yield Sample(task="text", key=f"{file.name}:{number}", messages=(document,))
