"""Checking the `options` of a source."""

from __future__ import annotations

from typing import TypeVar

import pydantic

from pipelines.reading.errors import SourceError
from schemas.spec import Source


class Options(pydantic.BaseModel):
    """Base of a format's options. Unknown names and wrong types are refused."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


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
