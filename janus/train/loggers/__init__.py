"""Loggers: where the numbers of a run go. One file each (design D13); `--watch.loggers` names those of a run.

A logger is a module with `Options`, a pydantic model of what `--watch.logger-options NAME.OPTION=VALUE` can set, and
`Logger(run, options)`. Other packages name theirs as entry points of the group `janus_forge.loggers`. Modules import
their package inside `Logger`: the command line reads the options of all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pydantic

from schemas.plugins import Options, PluginFolder, options_of

LOGGERS = PluginFolder(__name__, "logger")


@dataclass(frozen=True)
class Run:
    """What a logger is told about the run."""

    folder: Path
    """Run folder, which exists. Its name is the run's."""
    start_step: int
    """Steps done before this start: 0, or where a continued run goes on. What a logger has of later steps is void."""
    recipe: dict[str, Any]
    """The recipe as nested dicts of plain values."""


class Logger(Protocol):
    """Where lines go. Made by the main process only."""

    def write(self, line: dict[str, Any]) -> None:
        """Take one line: "step" (steps done) and numbers in nested dicts, e.g. {"loss": {"all": 2.5, "text": 3.1}}."""

    def close(self) -> None:
        """No more lines. Called at every end of a run but a kill."""


def read_options(names: Sequence[str], words: Sequence[str]) -> dict[str, Options]:
    """The options of the loggers `names`, some set by `words` of the form NAME.OPTION=VALUE.

    Raises ValueError with one line for an unknown logger or option, or a value of another type.
    """
    given: dict[str, dict[str, str]] = {name: {} for name in names}
    modules = {name: LOGGERS.load(name) for name in names}
    for word in words:
        key, equals, value = word.partition("=")
        name, dot, option = key.partition(".")
        if not (name and equals and dot and option):
            raise ValueError(f"--watch.logger-options {word}: expected NAME.OPTION=VALUE")
        if name not in given:
            raise ValueError(f"--watch.logger-options {word}: {name} is not among --watch.loggers")
        given[name][option] = value
    return {
        name: _from_words(options_model(modules[name]), values, f"--watch.logger-options {name}")
        for name, values in given.items()
    }


def _from_words(model: type[Options], values: dict[str, str], where: str) -> Options:
    try:
        return model.model_validate_strings(values)
    except pydantic.ValidationError:
        # Fails too, and says in one line what is wrong.
        return options_of(model, values, where)


def open_loggers(names: Sequence[str], words: Sequence[str], run: Run) -> dict[str, Logger]:
    """Start the loggers of a run. Raises ValueError with one line where one cannot be."""
    started: dict[str, Logger] = {}
    for name, options in read_options(names, words).items():
        try:
            started[name] = LOGGERS.load(name).Logger(run, options)
        except (ValueError, OSError):
            raise
        except Exception as error:  # each package has its own kinds
            raise ValueError(f"--watch.loggers {name}: cannot start: {' '.join(str(error).split())}") from None
    return started


def options_model(module: ModuleType) -> type[Options]:
    """The options of a logger's module; none where it has no `Options`."""
    return getattr(module, "Options", Options)


def describe() -> str:
    """All loggers with their options and first lines of documentation, for --help."""
    return "; ".join(_describe_each())


def _describe_each() -> Iterator[str]:
    for name in LOGGERS.names():
        try:
            module = LOGGERS.load(name)
        except ValueError as error:
            yield f"{name} ({error})"
            continue
        summary = (module.__doc__ or "").strip().splitlines()
        fields = options_model(module).model_fields.items()
        options = ", ".join(f"{name}.{option}={field.default!s}" for option, field in fields)
        yield f"{name}: {summary[0].rstrip('.') if summary else 'no description'}" + (
            f" ({options})" if options else ""
        )


def need(package: str, *, logger: str) -> Any:
    """Import the package of a logger. Raises ValueError naming the extra that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(
            f"--watch.loggers {logger}: the package {package.partition('.')[0]} is not installed; "
            f"pip install 'janus-forge[{logger}]'"
        ) from None


def flatten(line: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers by `outer/inner` name."""
    flat: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat
