"""requirements.lock is whole, for the first Python 3.11 as for the last."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def locked() -> dict[str, str]:
    """Version by canonical name."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def needed(requirements: list[str], extras: set[str], python: str) -> Iterator[Requirement]:
    """Those that hold on `python` with one of `extras`."""
    for line in requirements:
        requirement = Requirement(line)
        for extra in ("", *extras):
            environment = {"python_version": "3.11", "python_full_version": python, "extra": extra}
            if requirement.marker is None or requirement.marker.evaluate(environment):
                yield requirement
                break


@pytest.mark.parametrize("python", ["3.11.0", "3.11.14"])
def test_every_requirement_of_every_locked_package_is_locked(python: str) -> None:
    lock = locked()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    overridden = {Requirement(line).name: line for line in pyproject["tool"]["uv"]["override-dependencies"]}
    extras = project["optional-dependencies"]
    lines, names = [*project["dependencies"]], ["dev"]
    while names:
        for line in extras[names.pop()]:
            lines.append(line)
            if (one := Requirement(line)).name == project["name"]:
                names += one.extras
    open_ = [("pyproject.toml", one) for one in map(Requirement, lines) if one.name != project["name"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_:
        by, requirement = open_.pop()
        requirement = Requirement(overridden.get(requirement.name, str(requirement)))
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{by} needs {requirement}: run make lock"
        assert requirement.specifier.contains(lock[name], prereleases=True), f"{by} needs {requirement}: run make lock"
        key = (name, frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            found = metadata.distribution(name).requires or []
            open_ += [(f"{name} {lock[name]}", one) for one in needed(found, requirement.extras, python)]


def test_the_lock_holds_names_and_versions_only() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[a-z0-9.+!]+", line) for line in lines)
