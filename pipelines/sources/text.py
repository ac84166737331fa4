"""Plain text: JSON lines (also .gz, as C4 is published), Parquet (FineWeb and others) or .txt files.

A row that is longer than the model's context would be dropped whole, so long documents are cut into consecutive pieces
of at most `max_chars`, at a blank line if there is one in the second half of the piece, else at a line end, else at a
space.
"""

from __future__ import annotations

from collections.abc import Iterator

import pydantic

from pipelines.reading.limits import MAX_ROW
from pipelines.reading.options import FileOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.rows import Item, Table, samples
from pipelines.reading.tables import SUFFIXES, those_that_hold
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("text",)


class TextOptions(FileOptions):
    """Options of `text`."""

    column: str = "text"
    """Field or column with the text; a .txt file is one document."""
    json_lines: bool = True
    """Whether .json files hold one object per line, as C4's do, rather than one list."""
    max_chars: int = pydantic.Field(default=12_000, ge=1, le=1_000_000)
    """Longest piece of a document, characters (a token of English is about 4)."""


def read(source: Source) -> Iterator[Item]:
    """One sample per document or piece of one, in order."""
    options = options_of(source, TextOptions)
    table = Table(source, options, [options.column], suffixes=(*SUFFIXES, ".txt"), json_lines=options.json_lines)

    def pieces(row: Record) -> list[Item]:
        found = cut(row.text(options.column), options.max_chars)
        return [
            Sample(
                task="text",
                key=row.key if len(found) == 1 else f"{row.key}#{number}",
                messages=(Message(role="document", text=piece),),
            )
            for number, piece in enumerate(found)
        ]

    def whole(row: Record) -> list[Item]:
        text = table.gate.read_text(table.gate.root / row.key, MAX_ROW)
        return pieces(row._replace(data={options.column: text}))

    for file in table.files():
        if file.suffix.lower() == ".txt":
            document = Record(str(file), table.gate.relative(file), {"__key__": file.stem})
            yield from samples(source, those_that_hold([document], table.condition), whole)
        else:
            yield from samples(source, table.rows_of(file), pieces)


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
