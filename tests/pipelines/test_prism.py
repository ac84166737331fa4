"""The same corpus on a distributed engine: Prism from a local binary (scripts/install-prism.sh)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.build import build
from schemas.spec import Operations
from tests.pipelines.test_build import world
from tests.pipelines.world import contents, spec


def prism() -> str:
    """Path of the binary; skips where there is none."""
    folders = [os.environ.get("GOBIN", "")]
    if go := shutil.which("go"):
        gopath = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip()
        folders.append(str(Path(gopath) / "bin"))
    found = shutil.which("prism", path=os.pathsep.join([*folders, os.environ["PATH"]]))
    if found is None:
        pytest.skip("no prism binary; install it with scripts/install-prism.sh")
    return found


@pytest.mark.integration
def test_prism_builds_the_same_bytes(model: Path, tmp_path: Path) -> None:
    settings = spec(model, world(tmp_path / "sources"))
    build(settings, tmp_path / "local", Operations())
    options = (f"--prism_location={prism()}", "--environment_type=LOOPBACK")
    build(settings, tmp_path / "prism", Operations(engine="prism", engine_options=options))
    assert contents(tmp_path / "prism") == contents(tmp_path / "local")
