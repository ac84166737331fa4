"""Sources: one file per on-disk format, each with `TASKS` (what it can be read as) and `read(source)`.

A source is read lazily and always in the same order. It says what there is, and loads no image but to hash it. `read`
yields a Sample for each row, or says what became of it:

- a row that cannot be read (broken JSON, a missing field, a forbidden path) is a `Failed`: it becomes a row of the
  corpus that has failed. More of them than `max_unreadable` stop the build.
- a row that is in order but not wanted (another task, not what `where` asks for) is a `Skipped`: it is counted.
- what can be wrong with an image becomes known later: a file that is not there is `missing_file`, an empty address is
  `bad_url`. A missing caption is an empty caption (the filter `caption_length.min_chars = 1` drops it).
- a file that as a whole is not what it should be (cut short, no such column) raises SourceError.

`pipelines.reading.rows` has the loop that all formats share. To add a format, add a file: its name is the `format` of a
corpus spec. Other packages name theirs as entry points of the group `janus_forge.sources` (schemas/plugins.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import ModuleType

from pipelines.reading.account import Account, Failed, Skipped
from pipelines.reading.errors import SourceError
from pipelines.reading.preview import PREVIEW_ROWS, Preview
from pipelines.reading.rows import Item
from schemas.plugins import PluginFolder
from schemas.sample import Sample
from schemas.spec import Source

__all__ = ["SourceError", "formats", "preview", "read_source"]

FORMATS = PluginFolder(__name__, "format")


def formats() -> list[str]:
    """Names of all formats."""
    return FORMATS.names()


def read_source(source: Source, account: Account | None = None) -> Iterator[Sample]:
    """The samples of `source` in its own order, at most `source.limit`, with its licence where they state none.

    `account` is told of every row. Raises SourceError with one line where the source cannot be read as described, too
    many of its rows cannot, or it has none.
    """
    account = account or Account(source)
    for item in _reader(source).read(source) if source.limit != 0 else ():
        if isinstance(item, Skipped):
            account.skip(item)
            continue
        if isinstance(item, Failed):
            account.fail(item)
            yield Sample(
                task=source.task, key=item.key, messages=(), outcome=item.error.outcome, licence=source.licence
            )
        else:
            account.take(item)
            if item.licence is None and source.licence is not None:
                item = item.model_copy(update={"licence": source.licence})
            yield item
        if account.rows == source.limit:
            break
    account.close()


def preview(source: Source, stop: threading.Event | None = None) -> Iterator[Item]:
    """What the source says of its first rows, as its format yields it: PREVIEW_ROWS of them, skipped ones not counted.

    Ends early once `stop` is set. Raises SourceError where the source cannot be read as described.
    """
    rows = PREVIEW_ROWS if source.limit is None else min(PREVIEW_ROWS, source.limit)
    taken = 0
    for item in _reader(source).read(Preview.model_construct(**dict(source))) if rows else ():
        yield item
        taken += not isinstance(item, Skipped)
        if taken >= rows or (stop is not None and stop.is_set()):
            return


def _reader(source: Source) -> ModuleType:
    """The module that reads a source. Raises SourceError if there is none, or it cannot read the source's task."""
    try:
        module = FORMATS.load(source.format)
    except ValueError as error:
        raise SourceError(f"source {source.name}: {error}") from None
    if source.task not in module.TASKS:
        tasks = " or ".join(module.TASKS)
        raise SourceError(f"source {source.name}: format {source.format} gives task {tasks}, not {source.task}")
    return module
