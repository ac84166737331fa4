"""References to images: made by the sources, resolved by the download step (pipelines/reading/local.py).

A path in a reference is relative to the source's folder, or to its image folder, and can never leave it, whatever the
data says (pipelines/reading/gate.py).
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.reading.errors import RowError
from pipelines.reading.gate import Gate
from pipelines.reading.gates import gate_of, images_gate
from pipelines.reading.records import Record, short
from schemas.sample import ImageRef
from schemas.spec import Source

IMAGE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k"],
)
"""File names taken for images when a folder is walked. What the bytes are is found out later."""
OTHER_IMAGES = frozenset([".heic", ".heif", ".jxl", ".svg", ".psd", ".tga", ".dng", ".cr2", ".nef", ".arw", ".ppm"])
"""File names of pictures of kinds that are not read: counted as `unsupported_format`."""
BLOCK = 1 << 20
"""Bytes read at a time for a hash."""
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


class Images:
    """Makes the references to the images of one source."""

    def __init__(self, source: Source, gate: Gate | None = None, folder: str = "") -> None:
        """`folder`: where paths start (`options.images`): relative to the source's folder, or absolute."""
        self.gate = gate or gate_of(source)
        self._apart = images_gate(source)
        self._folder = "" if self._apart else folder

    def at(self, place: str, where: str, beside: str = "") -> ImageRef:
        """Reference to `place` as a data file names it: an http(s) address, or a path.

        `beside`: the folder of that data file, relative to the source's, if paths are relative to it.
        """
        if _ADDRESS.match(place):
            return ImageRef(url=place)
        if self._apart is not None:
            return local_image(self._apart, place, where).model_copy(update={"root": "images"})
        if not place or PurePosixPath(place).is_absolute():
            return local_image(self.gate, place, where)  # refuses it
        return local_image(self.gate, str(PurePosixPath(beside) / self._folder / place), where)

    def of(self, record: Record, field: str) -> tuple[ImageRef, ...]:
        """The images of a row, in order: its field holds none (null), one, or a list of them.

        Each is an address, a path, or in Parquet the bytes themselves or `datasets`' struct of bytes and path.
        """
        value = record.get(field)
        if value is None:
            return ()
        if isinstance(value, list):
            return tuple(self._one(record, f"{field}.{index}", item) for index, item in enumerate(value))
        return (self._one(record, field, value),)

    def cell(self, record: Record, field: str) -> ImageRef:
        """The one image of a row. A null cell is an image that is not there (`missing_file`)."""
        return self._one(record, field, record.get(field))

    def _one(self, record: Record, field: str, value: Any) -> ImageRef:
        if isinstance(value, dict) and "bytes" in value:
            if value["bytes"] is None and isinstance(value.get("path"), str) and value["path"]:
                return self.at(value["path"], f"{record.where}: {field}.path")
            field, value = f"{field}.bytes", value["bytes"]
        if isinstance(value, str):
            return self.at(value, f"{record.where}: {field}")
        if isinstance(value, bytes) or (value is None and record.file):
            sha256 = None if value is None else hashlib.sha256(value).hexdigest()
            return ImageRef(path=record.file, column=field, row=record.row, sha256=sha256)
        raise RowError(f"{record.where}: {field}: expected an image, its address or its path, found {short(value)}")


def local_image(gate: Gate, relative: str, where: str) -> ImageRef:
    """Reference to an image file, with its hash; without one if there is no such file (`missing_file`, later)."""
    path = gate.path(relative, where)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise RowError(f"{where}: the file name {relative!r} is not UTF-8; rename it") from None
    return ImageRef(path=PurePosixPath(relative).as_posix(), sha256=_sha256(gate, path, where))


def _sha256(gate: Gate, path: Path, where: str) -> str | None:
    try:
        with gate.open(path, where) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return None


def range_image(gate: Gate, file: Path, offset: int, size: int) -> ImageRef:
    """Reference to a byte range of `file`, a member of a tar."""
    sha256 = hashlib.sha256()
    with gate.open_data(file) as stream:
        stream.seek(offset)
        left = size
        while block := stream.read(min(left, BLOCK)):
            sha256.update(block)
            left -= len(block)
    return ImageRef(path=gate.relative(file), offset=offset, size=size, sha256=sha256.hexdigest())
