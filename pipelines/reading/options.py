"""Checking the `options` of a source, and those that many formats share."""

from __future__ import annotations

from typing import TypeVar

import pydantic

from pipelines.reading.errors import SourceError
from schemas import plugins
from schemas.plugins import Options
from schemas.spec import Source

__all__ = ["FileOptions", "ImageOptions", "Options", "options_of"]


class FileOptions(Options):
    """Options of a format that is read file by file."""

    files: list[str] = pydantic.Field(default_factory=list)
    """Patterns of the files to read, relative to the source's path: `*` and `?` stay in one folder, `**/` is any number
    of folders. Without any: every file of the format's kinds."""
    exclude: list[str] = pydantic.Field(default_factory=list)
    """Patterns of files and folders to leave out."""
    rows: str | None = None
    """Of a .json file that is one object: the field with the list of rows. Without it the object's values are the rows,
    and their names can be referred to as `__key__`."""


class ImageOptions(FileOptions):
    """Options of a format whose rows name images by path."""

    images: str = ""
    """Folder that image paths start in: relative to the source's path, or anywhere if absolute."""


T = TypeVar("T", bound=Options)


def options_of(source: Source, model: type[T]) -> T:
    """`source.options` as a `model`. Raises SourceError naming the first option that is wrong."""
    try:
        return plugins.options_of(model, source.options, f"source {source.name}: options")
    except ValueError as error:
        raise SourceError(str(error)) from None
