"""WebDataset tars: members with the same name up to the first dot are one sample.

    00000.tar:  000000001.jpg  000000001.txt  000000001.json  000000002.jpg ...

Images are referred to by their place in the tar. A sample without the caption member has an empty caption; a tar in
which no sample has one is an error, for then the description is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, as_text, files_of
from pipelines.reading.refs import IMAGE_SUFFIXES, range_image, root_of
from pipelines.reading.tars import Member, members, read_member
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class WebDatasetOptions(Options):
    """Options of `webdataset`."""

    caption: str = "txt"
    """Extension of the member with the caption."""
    field: str | None = None
    """If that member is JSON: the field with the caption."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per group of members, tars by name."""
    options = options_of(source, WebDatasetOptions)
    root = root_of(source)
    for tar in files_of(source, (".tar",)):
        relative = tar.relative_to(root).as_posix()
        extensions: set[str] = set()
        for name, group in groupby(members(tar), key=lambda member: _split(member.name)[0]):
            parts = {_split(member.name)[1]: member for member in group}
            extensions.update(parts)
            images = [member for extension, member in parts.items() if f".{extension.lower()}" in IMAGE_SUFFIXES]
            if len(images) != 1:
                raise SourceError(f"{tar}: sample {name} has {len(images)} images, expected one")
            image = images[0]
            yield Sample(
                task=source.task,
                key=f"{relative}/{name}",
                messages=(Message(role="caption", text=_caption(tar, parts.get(options.caption), options)),),
                images=(range_image(tar, relative, image.offset, image.size),),
            )
        if extensions and options.caption not in extensions:
            found = ", ".join(sorted(extensions))
            raise SourceError(f"{tar}: no member ends in .{options.caption} (found: {found}); set options.caption")


def _split(name: str) -> tuple[str, str]:
    """Sample name and extension: a/b.c.jpg is a/b and c.jpg."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return (path.parent / stem).as_posix(), extension


def _caption(tar: Path, member: Member | None, options: WebDatasetOptions) -> str:
    if member is None:
        return ""
    where = f"{tar}: {member.name}"
    try:
        text = read_member(tar, member).decode("utf-8")
        if options.field is None:
            return text.strip()
        value = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SourceError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise SourceError(f"{where}: expected a JSON object")
    return as_text(Record(where, "", value).text(options.field), where).strip()
