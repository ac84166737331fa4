"""Which code a result depends on: the modules of this checkout that a module imports, and those that they import.

Read from the source, so imports inside functions count. So do two ways to reach a module by its name: a string that is
the name of a module ("pipelines.engine.worker", started with `python -m`), and a folder of plug-ins, all of whose
modules count, with those that pyproject.toml adds as entry points. Imports for type checkers do not count.

Files are compared by what they mean: comments, docstrings and layout do not enter the digest.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from schemas.digest import digest

PACKAGES = ("demo", "flows", "janus", "pipelines", "schemas", "storage")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class _Source:
    """What matters of a module's text."""

    digest: str
    names: frozenset[str]
    """What it imports, and strings that may name a module."""
    plugins: frozenset[str]
    """Folders of plug-ins that it opens; `__name__` is its own."""


class Checkout:
    """The modules below a folder."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._sources: dict[str, _Source] = {}

    def code_digest(self, *modules: str) -> str:
        """Digest of the code of `modules` and of all that they depend on."""
        return digest({name: self._source(name).digest for name in sorted(self.closure(modules))})

    def closure(self, modules: Iterable[str]) -> set[str]:
        """Names of all modules that `modules` depend on, themselves included; a package stands for its `__init__`."""
        found: set[str] = set()
        waiting = [*modules, *(f"{name}.__main__" for name in modules)]
        while waiting:
            name = waiting.pop()
            if name in found or self._file(name) is None:
                continue
            found.add(name)
            source, parts = self._source(name), name.split(".")
            waiting += [".".join(parts[:count]) for count in range(1, len(parts))]
            waiting += source.names
            for folder in source.plugins:
                waiting += self._plugins(name if folder == "__name__" else folder)
        return found

    def _file(self, name: str) -> Path | None:
        """Where a module of ours lies; None for any other name."""
        parts = name.split(".")
        if parts[0] not in PACKAGES or not all(part.isidentifier() for part in parts):
            return None
        path = self._root.joinpath(*parts)
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            file = self._file(name)
            assert file is not None
            self._sources[name] = _read(file.read_text(encoding="utf-8"))
        return self._sources[name]

    def _plugins(self, package: str) -> Iterator[str]:
        """The plug-ins of a folder."""
        folder = self._root.joinpath(*package.split("."))
        yield from (f"{package}.{path.stem}" for path in folder.glob("[!_]*.py"))
        yield from self._entry_points.get(f"janus_forge.{package.rpartition('.')[2]}", {}).values()

    @cached_property
    def _entry_points(self) -> dict[str, dict[str, str]]:
        project = tomllib.loads((self._root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return project.get("entry-points", {})


@cache
def _read(text: str) -> _Source:
    tree = _without_docstrings(ast.parse(text))
    names: set[str] = set()
    plugins: set[str] = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            names.add(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "PluginFolder":
            plugins.add(ast.unparse(node.args[0]).strip("'"))
    return _Source(digest(ast.dump(tree)), frozenset(names), frozenset(plugins))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            yield from (inner for other in node.orelse for inner in ast.walk(other))
            continue
        yield node
        yield from _executed(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone: docstrings, those of fields and constants too."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [line for line in body if not _is_docstring(line)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
