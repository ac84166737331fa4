"""The house: imports go down only (ARCHITECTURE.md). Read from the source, so lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Package prefix -> what it must never import, at any depth of the file.
FORBIDDEN = {
    "flows": ["demo"],
    "storage": [
        "janus",
        "pipelines",
        "flows",
        "demo",
        "torch",
        "apache_beam",
        "prefect",
        "numpy",
        "pyarrow",
    ],
    "schemas": ["janus", "pipelines", "flows", "demo", "torch", "transformers", "apache_beam", "prefect", "numpy"],
    "janus": ["pipelines", "flows", "demo", "apache_beam", "prefect"],
    "pipelines": ["flows", "demo", "prefect", "janus.train", "janus.evaluate"],
}
# Rooms of floor 2 must not know the commands above them.
COMMANDS = ["train", "evaluate", "assemble", "export", "generate", "chat"]
GROUND = [
    "janus/model",
    "janus/data",
    "janus/report",
    "janus/images.py",
    "janus/image_headers.py",
    "janus/packed.py",
    "janus/plain.py",
    "janus/presets",
    "janus/cli.py",
]


def imported(path: Path, *, module_level: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if module_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", FORBIDDEN)
def test_floor_imports_only_below(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            for bad in FORBIDDEN[package]:
                assert not under(name, bad), f"{path.relative_to(ROOT)} imports {name}"


def test_ground_floor_does_not_know_the_commands() -> None:
    for room in GROUND:
        files = sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / room]
        for path in files:
            for name in imported(path):
                for command in COMMANDS:
                    assert not under(name, f"janus.{command}"), f"{path.relative_to(ROOT)} imports {name}"


def test_flows_import_no_torch_at_module_level() -> None:
    code = (
        "import sys, importlib, pkgutil, flows\n"
        "for m in pkgutil.walk_packages(flows.__path__, 'flows.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "bad = [n for n in ('torch', 'transformers', 'apache_beam', 'open_clip') if n in sys.modules]\n"
        "sys.exit(f'flows imports {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
