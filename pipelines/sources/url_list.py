"""Addresses with captions, as LAION, YFCC15M, PixelProse or Megalith are published: Parquet, CSV, TSV or JSON lines.

A folder is read file by file in order of the paths. A null caption is an empty one; a null address fails as bad_url.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import files_of, records
from pipelines.reading.refs import root_of
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")
SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")


class UrlListOptions(Options):
    """Options of `url_list`: column names."""

    url: str = "url"
    caption: str = "caption"
    sha256: str | None = None
    """Hex digest that the image must have (hash_mismatch if it has not)."""
    licence: str | None = None


def read(source: Source) -> Iterator[Sample]:
    """One sample per row."""
    options = options_of(source, UrlListOptions)
    root = root_of(source)
    columns = [name for name in (options.url, options.caption, options.sha256, options.licence) if name is not None]
    for file in files_of(source, SUFFIXES):
        for record in records(file, root, columns):
            sha256 = record.text(options.sha256) if options.sha256 else ""
            if sha256 and (len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef")):
                raise SourceError(f"{record.where}: {options.sha256}: expected 64 hex digits, found {sha256[:80]!r}")
            yield Sample(
                task=source.task,
                key=record.key,
                messages=(Message(role="caption", text=record.text(options.caption)),),
                images=(ImageRef(url=record.text(options.url), sha256=sha256.lower() or None),),
                licence=(record.text(options.licence) or None) if options.licence else None,
            )
