"""The same bytes with any number of worker processes (design D1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.build import build
from schemas.spec import Operations
from tests.pipelines.test_build import world
from tests.pipelines.world import contents, spec


@pytest.mark.slow
def test_one_two_and_four_processes(model: Path, tmp_path: Path) -> None:
    settings = spec(model, world(tmp_path / "sources"))
    made = {}
    for workers in (1, 2, 4):
        build(settings, tmp_path / str(workers), Operations(workers=workers))
        made[workers] = contents(tmp_path / str(workers))
    assert made[1] == made[2] == made[4]
