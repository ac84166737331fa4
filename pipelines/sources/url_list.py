"""Addresses with captions, as LAION, YFCC15M, PixelProse, Megalith or OpenImages are published: a table of any kind.

A folder is read file by file in order of the paths. A null caption is an empty one; a null address fails as bad_url.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.captions import CaptionOptions, CaptionReader
from pipelines.reading.errors import RowError
from pipelines.reading.options import options_of
from pipelines.reading.records import Record
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class UrlListOptions(CaptionOptions):
    """Options of `url_list`: column names."""

    url: str = "url"
    sha256: str | None = None
    """Hex digest that the image must have (hash_mismatch if it has not)."""
    licence: str | None = None


def read(source: Source) -> Iterator[Item]:
    """One sample per row."""
    options = options_of(source, UrlListOptions)
    columns = [name for name in (options.url, *options.fields, options.sha256, options.licence) if name is not None]
    table = Table(source, options, columns)
    captions = CaptionReader(source, options, table.gate)

    def sample(row: Record) -> Sample:
        sha256 = row.text(options.sha256).lower() if options.sha256 else ""
        if sha256 and (len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef")):
            raise RowError(f"{row.where}: {options.sha256}: expected 64 hex digits, found {sha256[:80]!r}")
        return Sample(
            task=source.task,
            key=row.key,
            messages=(Message(role="caption", text=captions.of(row)),),
            images=(ImageRef(url=row.text(options.url).strip(), sha256=sha256 or None),),
            licence=(row.text(options.licence) or None) if options.licence else None,
        )

    yield from samples(source, table.rows(), sample)
