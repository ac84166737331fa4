"""Sources: one file per on-disk format, each with `TASKS` (what it can be read as) and `read(source)`.

A source is read lazily and always in the same order. It says what there is, and loads no image but to hash it.

- Structural damage (broken JSON, a missing column, a wrong type) raises SourceError: it means the description or the
  copy is wrong, and guessing would lose rows.
- What can be wrong with a single row becomes a row with a named fate: a file that is not there is `missing_file`, an
  empty address is `bad_url`, a missing caption is an empty caption (which `caption_length.min_chars = 1` drops).

To add a format, add a file: its name is the `format` of a corpus spec. Other packages name theirs as entry points of
the group `janus_forge.sources` (schemas/plugins.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from types import ModuleType

from pipelines.reading.errors import SourceError
from schemas.plugins import PluginFolder
from schemas.sample import Sample
from schemas.spec import Source

__all__ = ["SourceError", "formats", "read_source"]

FORMATS = PluginFolder(__name__, "format")


def formats() -> list[str]:
    """Names of all formats."""
    return FORMATS.names()


def read_source(source: Source) -> Iterator[Sample]:
    """The samples of `source` in its own order, at most `source.limit`, with its licence where they state none.

    Raises SourceError with one line where the source cannot be read as described.
    """
    module = _reader(source)
    if source.task not in module.TASKS:
        tasks = " or ".join(module.TASKS)
        raise SourceError(f"source {source.name}: format {source.format} gives task {tasks}, not {source.task}")
    for sample in islice(module.read(source), source.limit):
        if sample.licence is None and source.licence is not None:
            sample = sample.model_copy(update={"licence": source.licence})
        yield sample


def _reader(source: Source) -> ModuleType:
    try:
        return FORMATS.load(source.format)
    except ValueError as error:
        raise SourceError(f"source {source.name}: {error}") from None
