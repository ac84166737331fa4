"""References to images: made by the sources, resolved by the download step.

A path in a reference is relative to the source's folder and can never leave it, whatever the data says: not by `..`,
not by an absolute path, not through a symbolic link.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources.errors import SourceError
from schemas.digest import file_sha256
from schemas.sample import ImageRef
from schemas.spec import Source

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k"],
)
"""File names taken for images when a folder is walked. What the bytes are is found out later."""


def root_of(source: Source) -> Path:
    """The folder that the image paths of `source` are relative to: its path, or the folder its file is in."""
    path = Path(source.path)
    if not path.exists():
        raise SourceError(f"source {source.name}: {path}: no such file or folder")
    return path if path.is_dir() else path.parent


def inside(root: Path, relative: str, where: str) -> Path:
    """`root / relative`, or SourceError if that is outside of `root`. The file need not exist."""
    name = PurePosixPath(relative)
    if not relative or name.is_absolute() or ".." in name.parts or "\0" in relative:
        raise SourceError(f"{where}: path {relative!r} must be relative and stay inside {root}")
    path = root / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise SourceError(f"{where}: {path} is a symbolic link that leaves {root}; copy the files or move the root up")
    return path


def local_image(root: Path, relative: str, where: str) -> ImageRef:
    """Reference to an image file, with its hash; without one if there is no such file (`missing_file`, later)."""
    path = inside(root, relative, where)
    normal = PurePosixPath(relative).as_posix()
    # os.path.isfile, unlike Path.is_file, is also content with names that no file system takes.
    try:
        return ImageRef(path=normal, sha256=file_sha256(path) if os.path.isfile(path) else None)
    except OSError as error:
        raise SourceError(f"{where}: {path}: {error.strerror}") from None


def image_at(root: Path, place: str, where: str, folder: str = "") -> ImageRef:
    """Reference to `place` as a data file names it: an http(s) address, or a path below `root / folder`."""
    if place.startswith(("http://", "https://")):
        return ImageRef(url=place)
    return local_image(root, str(PurePosixPath(folder) / place), where)


def bytes_image(path: str, offset: int, data: bytes) -> ImageRef:
    """Reference to a byte range of a file (a member of a tar)."""
    return ImageRef(path=path, offset=offset, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def cell_image(path: str, column: str, row: int, value: object, where: str) -> ImageRef:
    """Reference to a cell of a Parquet file that holds an image: its bytes, or `datasets`' struct of bytes and path."""
    if isinstance(value, dict) and "bytes" in value:
        column, value = f"{column}.bytes", value["bytes"]
    if not isinstance(value, bytes):
        raise SourceError(f"{where}: {column}: expected the bytes of an image, found {type(value).__name__}")
    return ImageRef(path=path, column=column, row=row, sha256=hashlib.sha256(value).hexdigest())


def read_image_bytes(ref: ImageRef, root: Path) -> bytes:
    """The bytes that the local reference `ref` of a source in the folder `root` stands for.

    Raises FileNotFoundError if the file (or the row in it) is gone, SourceError if its path would leave `root`.
    """
    if ref.path is None:
        raise ValueError(f"not a local image: {ref.url}")
    path = inside(root, ref.path, "image reference")
    if not os.path.isfile(path):  # also keeps pipes and devices out
        raise FileNotFoundError(f"{path}: no such file")
    if ref.column is not None and ref.row is not None:
        return _cell(path, ref.column, ref.row)
    with path.open("rb") as file:
        file.seek(ref.offset or 0)
        return file.read(-1 if ref.size is None else ref.size)


def _cell(path: Path, column: str, row: int) -> bytes:
    stat = path.stat()
    first = 0
    for group, rows in enumerate(_group_rows(path, stat.st_mtime_ns, stat.st_size)):
        if row < first + rows:
            value = _group(path, stat.st_mtime_ns, stat.st_size, group, column)[row - first].as_py()
            if value is not None:
                return value
            break
        first += rows
    raise FileNotFoundError(f"{path}: no value in row {row} of column {column}")


# The cache keys hold time and size, so a file that was replaced is read again.
@functools.lru_cache(maxsize=64)
def _group_rows(path: Path, mtime: int, size: int) -> tuple[int, ...]:
    metadata = pq.read_metadata(path)
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


@functools.lru_cache(maxsize=2)
def _group(path: Path, mtime: int, size: int, group: int, column: str) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return nested(file.read_row_group(group, columns=[column]), column)


def nested(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Column `a.b` of a table: field b of the struct a (`datasets` stores images as image.bytes)."""
    name, *fields = column.split(".")
    array = table.column(name)
    for field in fields:
        array = pa.chunked_array([pa.compute.struct_field(chunk, field) for chunk in array.chunks])
    return array
