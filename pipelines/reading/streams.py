"""Files of bytes and lines, compressed or not, with a bound on everything that is held at once."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.limits import FREE_EXPANSION, MAX_RATIO, MAX_ROW
from schemas.reasons import Outcome

COMPRESSED = (".gz", ".zst", ".zip")
BLOCK = 1 << 20


class Stream(NamedTuple):
    """The content of a file, or of one member of a .zip."""

    name: str
    """File name without the suffix of the compression, lower case: says what is in it."""
    where: str
    """For messages."""
    key: str
    """The same, relative to the source's folder."""
    file: BinaryIO


def bare_name(path: Path) -> str:
    """The file's name in lower case, without the suffix of a compression."""
    name = path.name.lower()
    return next((name.removesuffix(suffix) for suffix in COMPRESSED if name.endswith(suffix)), name)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what decompressors raise over a damaged file into SourceError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: damaged or truncated gzip file: {error}") from None
    except zipfile.BadZipFile as error:
        raise SourceError(f"{path}: damaged or truncated zip file: {error}") from None
    except (NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{path}: {error}") from None  # a zip with a password, or of an unknown method
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error}") from None


def streams(path: Path, gate: Gate) -> Iterator[Stream]:
    """What is in a file: its bytes, decompressed if it is a .gz or .zst, or those of each member of a .zip, by name.

    Raises SourceError for a file that becomes MAX_RATIO times as large as it is.
    """
    name, key = path.name.lower(), gate.relative(path)
    with gate.open_data(path) as raw, reading(path):
        size = os.fstat(raw.fileno()).st_size
        if name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as file:
                yield Stream(bare_name(path), str(path), key, _bounded(file, path, size))
        elif name.endswith(".zst"):
            with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as file:
                yield Stream(bare_name(path), str(path), key, _bounded(file, path, size))
        elif name.endswith(".zip"):
            with zipfile.ZipFile(raw) as archive:
                for info in sorted(archive.infolist(), key=lambda info: info.filename):
                    if not info.is_dir():
                        with archive.open(info) as file:
                            place = f"/{info.filename}"
                            bounded = _bounded(file, path, size)
                            yield Stream(info.filename.lower(), f"{path}{place}", f"{key}{place}", bounded)
        else:
            yield Stream(name, str(path), key, raw)


class _Bounded(io.RawIOBase):
    """A decompressed file that ends in an error where it is too much larger than the compressed one."""

    def __init__(self, file: BinaryIO, path: Path, compressed: int) -> None:
        self._file, self._path = file, path
        self._left = FREE_EXPANSION + MAX_RATIO * compressed

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Read, and count."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(f"{self._path}: becomes more than {MAX_RATIO} times as large; decompress it by hand")
        return len(data)


def _bounded(file: object, path: Path, compressed: int) -> BinaryIO:
    return io.BufferedReader(_Bounded(file, path, compressed), BLOCK)  # type: ignore[arg-type]


class Lines:
    """The lines of a stream as text, endings kept. A line that cannot be had raises RowError; the next can be read.

    An object with `__next__` and no generator, for a generator would be over after the first error.
    """

    def __init__(self, stream: Stream) -> None:
        self._file, self._where = stream.file, stream.where
        self.number = 0
        """Of the line last read, from 1."""
        self.complete = True
        """Whether that line had an end."""

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        data = self._file.readline(MAX_ROW + 1)
        if not data:
            raise StopIteration
        self.number += 1
        if len(data) > MAX_ROW:
            while data and not data.endswith(b"\n"):
                data = self._file.readline(BLOCK)
            self.complete = True
            raise RowError(f"{self.place}: a line of more than {MAX_ROW:,} bytes", Outcome.ROW_TOO_LARGE)
        self.complete = data.endswith(b"\n")
        try:
            return data.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise RowError(f"{self.place}: not UTF-8 text: {error.reason} at byte {error.start}") from None

    @property
    def place(self) -> str:
        """File and line last read."""
        return f"{self._where}:{self.number}"
