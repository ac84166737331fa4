"""Checking the `options` of a source, and those that many formats share."""

from __future__ import annotations

from typing import TypeVar

import pydantic

from pipelines.reading.errors import SourceError
from schemas.spec import Source


class Options(pydantic.BaseModel):
    """Base of a format's options. Unknown names and wrong types are refused."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


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
        return model.model_validate(source.options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields) or "none"
        message = first["msg"].removeprefix("Value error, ")
        raise SourceError(
            f"source {source.name}: options.{name}: {message} (format {source.format} knows: {known})"
        ) from None
