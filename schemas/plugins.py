"""What is added by adding a file: sources, signals, filters, benchmarks, loggers, detectors (design D13).

A plug-in is a module. Those of this project are the modules of one folder, found by being there; other packages name
theirs as entry points of the group `janus_forge.<folder>`:

    [project.entry-points."janus_forge.signals"]
    brightness = "my_package.brightness"
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

import pydantic


class Options(pydantic.BaseModel):
    """Base of a plug-in's options. Unknown names and wrong types are refused."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


T = TypeVar("T", bound=pydantic.BaseModel)


def options_of(model: type[T], settings: Mapping[str, Any], where: str) -> T:
    """`settings` as a `model`. Raises ValueError with one line: `where`, the option and what is wrong with it."""
    try:
        return model.model_validate(settings)
    except pydantic.ValidationError as error:
        # An option that does not exist is said first: it may be why another is missing.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        name = ".".join(str(part) for part in first["loc"])
        known = list(model.model_fields)
        if first["type"] == "extra_forbidden":
            raise ValueError(f"{where}: no option {name!r}{did_you_mean(name, known)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}{'.' if name else ''}{name}: {message}") from None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the closest of those there are, and all of them."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{hint}; there are: {', '.join(sorted(known)) or 'none'}"


@dataclass(frozen=True)
class PluginFolder:
    """One kind of plug-in."""

    package: str
    """Its folder, as a package: "pipelines.signals"."""
    noun: str
    """What one is called in messages: "signal"."""

    @property
    def group(self) -> str:
        """Entry-point group of the plug-ins of other packages."""
        return f"janus_forge.{self.package.rpartition('.')[2]}"

    @cached_property
    def _own(self) -> tuple[str, ...]:
        spec = importlib.util.find_spec(self.package)
        places = (spec and spec.submodule_search_locations) or []
        return tuple(m.name for m in pkgutil.iter_modules(places) if not m.ispkg and not m.name.startswith("_"))

    @cached_property
    def _others(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self._own or (point.name in found and found[point.name].value != point.value):
                raise ValueError(
                    f"two {self.noun}s are called {point.name!r}: one is {point.value} "
                    f"(entry point of group {self.group}); uninstall or rename it"
                )
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """Names of all there are, sorted; none is imported.

        Raises ValueError if two have one name.
        """
        return sorted((*self._own, *self._others))

    def load(self, name: str) -> ModuleType:
        """The module of the plug-in `name`.

        Raises ValueError with one line: there is none of this name, or it needs a package that is not installed.
        """
        if name not in self.names():
            raise ValueError(f"no {self.noun} {name!r}{did_you_mean(name, self.names())}")
        try:
            if name in self._own:
                return importlib.import_module(f"{self.package}.{name}")
            module = self._others[name].load()
        except ModuleNotFoundError as error:
            raise ValueError(f"{self.noun} {name} needs the package {error.name!r}, which is not installed") from None
        if not isinstance(module, ModuleType):
            raise ValueError(f"entry point {name} of group {self.group}: expected a module, found {module!r}")
        return module
