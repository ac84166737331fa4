"""The house of ARCHITECTURE.md, read from the source: late imports count too, and so do those for type checkers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("demo", "flows", "janus", "pipelines", "schemas", "storage")

# Prefix of a module -> floor and room; the longest prefix counts. Imports stay in a room or go to a lower floor.
HOUSE = {
    "demo": (5, "demo"),
    "flows": (4, "flows"),
    "pipelines": (3, "pipelines"),
    "janus": (3, "commands"),  # train, evaluate, assemble, export, generate, chat
    "janus.cli": (2, "ground"),
    "janus.data": (2, "ground"),
    "janus.image_headers": (2, "ground"),
    "janus.image_metadata": (2, "ground"),
    "janus.image_rights": (2, "ground"),
    "janus.images": (2, "ground"),
    "janus.model": (2, "ground"),
    "janus.packed": (2, "ground"),
    "janus.plain": (2, "ground"),
    "janus.presets": (2, "ground"),
    "janus.report": (2, "ground"),
    "schemas": (1, "contracts"),
    "storage": (1, "contracts"),
}
HEAVY = ("apache_beam", "open_clip", "prefect", "torch", "transformers")
# Prefix -> packages of others that it never imports, at any depth of a file.
OTHERS = {
    "pipelines": ("prefect",),
    "janus": ("apache_beam", "prefect"),
    "schemas": (*HEAVY, "numpy"),
    "storage": (*HEAVY, "numpy", "pyarrow"),
}
# Circles that wait to be opened; each must be taken out of this list when it is gone.
KNOWN_CIRCLES: set[tuple[str, ...]] = {("storage.local", "storage.objects", "storage.retry", "storage.store")}


def modules() -> dict[str, Path]:
    """Every module of ours by its name; a package by that of its folder."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imported(name: str) -> frozenset[str]:
    """What a module of ours imports anywhere in its file: modules of ours by their full name, others as written."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import; write the full name"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in MODULES else node.module)
    return frozenset(names - {name})


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def place(name: str) -> tuple[int, str]:
    """Floor and room of a module of ours."""
    return HOUSE[max((prefix for prefix in HOUSE if under(name, prefix)), key=len)]


def test_every_room_is_there() -> None:
    for prefix in HOUSE:
        assert prefix in MODULES, prefix
    assert len(MODULES) > 150


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_stay_in_their_room_or_go_down(package: str) -> None:
    for name in (name for name in MODULES if under(name, package)):
        floor, room = place(name)
        for other in imported(name) & MODULES.keys():
            assert place(other)[1] == room or place(other)[0] < floor, f"{name} imports {other}"


@pytest.mark.parametrize("package", OTHERS)
def test_rooms_do_without_what_is_not_theirs(package: str) -> None:
    for name in (name for name in MODULES if under(name, package)):
        for other in imported(name):
            for bad in OTHERS[package]:
                assert not under(other, bad), f"{name} imports {other}"


def circles(graph: Mapping[str, frozenset[str]]) -> set[tuple[str, ...]]:
    """The sets of modules that reach each other (strongly connected components of more than one), sorted."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: set[tuple[str, ...]] = set()

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        path.append(name)
        for other in graph[name]:
            if other not in number:
                visit(other)
            if other in path:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            together = path[path.index(name) :]
            del path[path.index(name) :]
            if len(together) > 1:
                found.add(tuple(sorted(together)))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = circles({name: imported(name) & MODULES.keys() for name in MODULES})
    assert found - KNOWN_CIRCLES == set()
    assert KNOWN_CIRCLES - found == set(), "these are gone: take them out of KNOWN_CIRCLES"


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a", "f"}}
    assert circles({name: frozenset(others) for name, others in graph.items()}) == {("a", "b", "c"), ("d", "e")}


def heavy_modules(arguments: list[str]) -> Iterator[str]:
    """The heavy packages that `python -X importtime ARGUMENTS` loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert len(loaded) > 100
    yield from sorted(loaded & set(HEAVY))


def test_a_scheduler_node_loads_flows_without_torch() -> None:
    """Every module of `flows`, as a Prefect worker imports it: Prefect itself, and nothing else that is heavy."""
    names = [name for name in MODULES if under(name, "flows") and not name.endswith("__main__")]
    assert list(heavy_modules(["-c", f"import {', '.join(names)}"])) == ["prefect"]


@pytest.mark.parametrize("command", ["flows.corpus", "pipelines.build", "janus.train", "janus.evaluate", "demo"])
def test_help_loads_nothing_heavy(command: str) -> None:
    assert list(heavy_modules(["-m", command, "--help"])) == []
