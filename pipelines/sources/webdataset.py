"""WebDataset tars: members with the same name up to the first dot are one sample.

    00000.tar:  000000001.jpg  000000001.txt  000000001.json  000000002.jpg ...

Images are referred to by their place in the tar. The text members that are asked for are the fields of a row: `txt`,
and of a `.json` one "json.long_caption". A sample without the caption member has an empty caption; a tar in which no
sample has one is an error, for then the description is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

from pipelines.reading.account import Skipped
from pipelines.reading.captions import CaptionOptions, CaptionReader
from pipelines.reading.errors import RowError, SkipRow, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.join import stem
from pipelines.reading.limits import MAX_ROW, json_problem
from pipelines.reading.options import options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import IMAGE_SUFFIXES, range_image
from pipelines.reading.rows import Item, Table, samples
from pipelines.reading.tables import those_that_hold
from pipelines.reading.tars import Member, members, read_member
from schemas.reasons import Outcome, Skip
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class WebDatasetOptions(CaptionOptions):
    """Options of `webdataset`."""

    caption: str | list[str] = "txt"
    """Extension of the member with the caption; of a .json member "json.FIELD"."""


def read(source: Source) -> Iterator[Item]:
    """One sample per group of members, tars by name."""
    options = options_of(source, WebDatasetOptions)
    table = Table(source, options, suffixes=(".tar",))
    gate, condition = table.gate, table.condition
    captions = CaptionReader(source, options, gate)
    asked = [*options.fields, *source.columns, *(condition.columns() if condition else ())]
    wanted = {name.split(".")[0] for name in asked} - {"__key__"}
    for tar in table.files():
        met: set[str] = set()

        def sample(row: Record, tar: Path = tar) -> Sample:
            if len(images := row.data["__images__"]) > 1:
                raise RowError(f"{row.where}: {len(images)} images, expected one")
            if not images:
                raise SkipRow(Skip.NO_IMAGE)
            caption = (Message(role="caption", text=captions.of(row)),)
            image = range_image(gate, tar, images[0].offset, images[0].size)
            return Sample(task=source.task, key=row.key, messages=caption, images=(image,))

        for name, group in groupby(members(tar, gate), key=lambda member: _split(member.name)[0]):
            row, skipped = _row(tar, gate, name, list(group), wanted, met)
            yield from skipped
            yield from samples(source, those_that_hold([row], condition), partial(sample))
        needed = {field.split(".")[0] for field in options.fields} - {"__key__"}
        if met and needed and not needed & met:
            found = ", ".join(sorted(met)[:20])
            raise SourceError(f"{tar}: no member ends in .{' or .'.join(needed)} (found: {found}); set options.caption")


def _row(
    tar: Path, gate: Gate, name: str, group: list[Member], wanted: set[str], met: set[str]
) -> tuple[Record, list[Skipped]]:
    """The row that a group of members is, and the members that have no part in it."""
    where, key = f"{tar}: {name}", f"{gate.relative(tar)}/{name}"
    parts: dict[str, Member] = {}
    skipped = []
    for member in group:
        extension = _split(member.name)[1]
        if not member.regular or extension in parts:
            reason = Skip.DUPLICATE_KEY if member.regular else Skip.LINK_MEMBER
            skipped.append(Skipped(reason, 1, f"{tar}: {member.name}"))
        else:
            parts[extension] = member
    met.update(parts)
    data = {"__key__": stem(name), "__images__": [m for e, m in parts.items() if f".{e.lower()}" in IMAGE_SUFFIXES]}
    try:
        fields = {extension: _field(tar, gate, parts.get(extension)) for extension in wanted}
    except RowError as error:
        return Record(where, key, {}, problem=error), skipped
    return Record(where, key, {**data, **fields}), skipped


def _split(name: str) -> tuple[str, str]:
    """Sample name and extension: a/b.c.jpg is a/b and c.jpg."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    return (path.parent / stem).as_posix(), extension


def _field(tar: Path, gate: Gate, member: Member | None) -> object:
    if member is None:
        return None
    where = f"{tar}: {member.name}"
    try:
        text = read_member(tar, gate, member, MAX_ROW).decode("utf-8")
        value = json.loads(text) if member.name.lower().endswith(".json") else text
    except RowError:
        raise
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RowError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where}: {error}", Outcome.ROW_TOO_LARGE) from None
    if value is not text and (problem := json_problem(text, value)) is not None:
        raise RowError(f"{where}: {problem}", Outcome.ROW_TOO_LARGE)
    return value
