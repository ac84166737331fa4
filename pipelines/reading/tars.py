"""Members of plain tar files, found by their headers and later read by offset: nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.reading.errors import SourceError


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    offset: int
    size: int


def members(tar: Path) -> Iterator[Member]:
    """Regular files of `tar` in order. Raises SourceError if it is compressed, damaged or cut short."""
    try:
        with tarfile.open(tar, "r:") as archive:
            total = tar.stat().st_size
            for info in archive:
                if info.offset_data + info.size > total:
                    raise SourceError(f"{tar}: member {info.name} is cut short; copy the file again")
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
                archive.members = []  # type: ignore[attr-defined]  # else every header of a long tar stays in memory
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{tar}: not a readable plain tar file ({error}); unpack compressed ones first") from None


def read_member(tar: Path, member: Member) -> bytes:
    """The bytes of `member`."""
    with tar.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)
