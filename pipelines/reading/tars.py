"""Members of plain tar files, found by their headers and later read by offset: nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.limits import MAX_ROW, MAX_TEXT
from schemas.reasons import Outcome


class Member(NamedTuple):
    """A member of a tar that is no folder."""

    name: str
    offset: int
    size: int
    regular: bool = True
    """Whether its bytes stand there. Links, devices and sparse files have none of their own."""


class _Guarded:
    """A tar file of which no header can ask for more than MAX_ROW bytes at once."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Read; a header is a few hundred bytes."""
        if size > MAX_ROW:
            raise SourceError(f"{self._path}: a header of {size:,} bytes; this is no ordinary tar file")
        return self._file.read(size)


def _opened(file: BinaryIO, path: Path) -> tarfile.TarFile:
    guarded: Any = _Guarded(file, path)
    return tarfile.open(fileobj=guarded, mode="r:")


def members(tar: Path, gate: Gate) -> Iterator[Member]:
    """Members of `tar` in order. Raises SourceError if it is compressed, damaged or cut short."""
    try:
        with gate.open_data(tar) as file, _opened(file, tar) as archive:
            total = tar.stat().st_size
            for info in archive:
                if info.isreg() and info.offset_data + info.size > total:
                    raise SourceError(f"{tar}: member {info.name} is cut short; copy the file again")
                if not info.isdir():
                    regular = info.isreg() and not info.issparse()
                    yield Member(info.name, info.offset_data, info.size if regular else 0, regular)
                archive.members = []  # type: ignore[attr-defined]  # else every header of a long tar stays in memory
    except SourceError:
        raise
    except (tarfile.TarError, EOFError, OSError, OverflowError, ValueError) as error:
        raise SourceError(f"{tar}: not a readable plain tar file ({error}); unpack compressed ones first") from None


def read_member(tar: Path, gate: Gate, member: Member, limit: int = MAX_TEXT) -> bytes:
    """The bytes of `member`. Raises RowError if they are more than `limit`."""
    if member.size > limit:
        raise RowError(f"{tar}: {member.name}: more than {limit:,} bytes", Outcome.ROW_TOO_LARGE)
    with gate.open_data(tar) as file:
        file.seek(member.offset)
        return file.read(member.size)
