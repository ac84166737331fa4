"""What is tested is the checkout that the tests stand in, also where another checkout is the installed one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("demo", "flows", "janus", "pipelines", "schemas")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_those_of_this_checkout(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).resolve().is_relative_to(ROOT / name)


def test_commands_that_tests_start_are_those_of_this_checkout(tmp_path: Path) -> None:
    code = f"import importlib; print([importlib.import_module(name).__file__ for name in {PACKAGES}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count(str(ROOT)) == len(PACKAGES), done.stdout


def test_no_folder_of_tests_is_a_package() -> None:
    """With one, pytest would import tests/pipelines/test_x.py as `pipelines.test_x`: another `pipelines`."""
    assert not [*ROOT.joinpath("tests").rglob("__init__.py")]
