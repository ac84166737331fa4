"""Plain text: JSON lines (also .gz, as C4 is published), Parquet (FineWeb and others) or .txt files.

A row that is longer than the model's context would be dropped whole, so long documents are cut into consecutive pieces
of at most `max_chars`, at a blank line if there is one in the second half of the piece, else at a line end, else at a
space.
"""

from __future__ import annotations

from collections.abc import Iterator

import pydantic

from pipelines.reading.options import Options, options_of
from pipelines.reading.records import files_of, read_text, records
from pipelines.reading.refs import root_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("text",)
SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet", ".txt")


class TextOptions(Options):
    """Options of `text`."""

    column: str = "text"
    """Field or column with the text; a .txt file is one document."""
    json_lines: bool = True
    """Whether .json files hold one object per line, as C4's do, rather than one list."""
    max_chars: int = pydantic.Field(default=12_000, ge=1)
    """Longest piece of a document, characters (a token of English is about 4)."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per document or piece of one, in order."""
    options = options_of(source, TextOptions)
    for key, text in _documents(source, options):
        pieces = cut(text, options.max_chars)
        for number, piece in enumerate(pieces):
            name = key if len(pieces) == 1 else f"{key}#{number}"
            yield Sample(task="text", key=name, messages=(Message(role="document", text=piece),))


def _documents(source: Source, options: TextOptions) -> Iterator[tuple[str, str]]:
    root = root_of(source)
    for file in files_of(source, SUFFIXES):
        if file.suffix.lower() == ".txt":
            yield file.relative_to(root).as_posix(), read_text(file)
            continue
        for record in records(file, root, [options.column], json_lines=options.json_lines):
            yield record.key, record.text(options.column)


def cut(text: str, limit: int) -> list[str]:
    """`text` in pieces of at most `limit` characters; joined they are the text again."""
    pieces = []
    start = 0
    while len(text) - start > limit:
        end = start + limit
        for mark in ("\n\n", "\n", " "):
            found = text.rfind(mark, start + limit // 2, end)
            if found >= 0:
                end = found + len(mark)
                break
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:])
    return pieces
