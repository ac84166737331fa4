"""References to images: made by the sources, resolved by the download step (pipelines/reading/local.py).

A path in a reference is relative to the source's folder and can never leave it, whatever the data says: not by `..`,
not by an absolute path, not through a symbolic link.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from pipelines.reading.errors import SourceError
from schemas.digest import file_sha256
from schemas.sample import ImageRef
from schemas.spec import Source

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k"],
)
"""File names taken for images when a folder is walked. What the bytes are is found out later."""
BLOCK = 1 << 20
"""Bytes read at a time for a hash."""


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


def range_image(file: Path, path: str, offset: int, size: int) -> ImageRef:
    """Reference to a byte range of `file` (a member of a tar), whose path in the source's folder is `path`."""
    sha256 = hashlib.sha256()
    with file.open("rb") as stream:
        stream.seek(offset)
        left = size
        while block := stream.read(min(left, BLOCK)):
            sha256.update(block)
            left -= len(block)
    return ImageRef(path=path, offset=offset, size=size, sha256=sha256.hexdigest())


def cell_image(path: str, column: str, row: int, value: object, where: str) -> ImageRef:
    """Reference to a cell of a Parquet file that holds an image: its bytes, or `datasets`' struct of bytes and path."""
    if isinstance(value, dict) and "bytes" in value:
        column, value = f"{column}.bytes", value["bytes"]
    if not isinstance(value, bytes):
        raise SourceError(f"{where}: {column}: expected the bytes of an image, found {type(value).__name__}")
    return ImageRef(path=path, column=column, row=row, sha256=hashlib.sha256(value).hexdigest())
