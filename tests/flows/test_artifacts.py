from __future__ import annotations

from pathlib import Path

import numpy as np

from flows.artifacts import SIDE, key, sample_sheet
from pipelines.build import build
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import folder_source, image_folder, picture
from tests.pipelines.world import spec as make_spec


def test_keys_are_what_prefect_accepts() -> None:
    assert key("shapes-stage1", "funnel") == "shapes-stage1-funnel"
    assert key("My_Corpus 2", "sample sheet") == "my-corpus-2-sample-sheet"


def test_the_sample_sheet_takes_pictures_of_every_source_in_turn(tiny_janus: Path, tmp_path: Path) -> None:
    """Two sources of two pictures each: A, B, A, B."""
    sources = []
    for name in "ab":
        folder = image_folder(tmp_path / name, [f"{name}0", f"{name}1"], width=96, height=96)
        sources.append(folder_source(folder, name=name))
    wanted: CorpusSpec = make_spec(tiny_janus, sources, dedup={"near_radius": None})
    snapshot = build(wanted, tmp_path / "corpus", Operations())
    sheet = sample_sheet(tmp_path / "corpus", snapshot)
    assert sheet is not None
    assert sheet.size == (8 * SIDE, SIDE)
    cells = [np.asarray(sheet)[:, at * SIDE : (at + 1) * SIDE].astype(int) for at in range(4)]
    originals = {name: np.asarray(picture(name, 96, 96)).astype(int) for name in ("a0", "a1", "b0", "b1")}
    shown = [min(originals, key=lambda name, cell=cell: np.abs(originals[name] - cell).mean()) for cell in cells]
    assert [name[0] for name in shown] == ["a", "b", "a", "b"]
    assert sorted(shown) == ["a0", "a1", "b0", "b1"]
