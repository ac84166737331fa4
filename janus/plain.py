"""Dataclasses from plain values, as TOML and JSON have them: presets, configuration files and records of runs."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import pydantic

T = TypeVar("T")


def fill(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """`kind`, a dataclass (whose fields may be dataclasses), with the fields that `values` names.

    Args:
        where: what to put before a field's name in messages: "run.toml: recipe".

    Raises ValueError with one line for a field that is unknown, missing or of another type, or what `kind` refuses.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    for name in values.keys() - fields.keys():
        close = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
        raise ValueError(f"{where}.{name}: no such field; {hint}")
    arguments = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not has_default:
            raise ValueError(f"{where}.{name}: is missing")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: expected a table of fields, found {value!r}")
        return fill(hint, value, where)  # type: ignore[arg-type]
    try:
        # By way of JSON: there, strict validation takes a list for a tuple, but no text for a number.
        return pydantic.TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except (pydantic.ValidationError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
        raise ValueError(f"{where}: {reason}, found {value!r}") from None


def overlay(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change` put in; tables inside both are laid over each other the same way."""
    result = dict(base)
    for name, value in change.items():
        under = result.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        result[name] = overlay(under, value) if both else value  # type: ignore[arg-type]
    return result
