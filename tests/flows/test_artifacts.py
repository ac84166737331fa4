from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from flows.artifacts import SIDE, key, sample_sheet
from janus.report.contact_sheet import GAP
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
    assert sheet.size == (4 * (SIDE + GAP) + GAP, SIDE + 2 * GAP)
    shown = pictures_on(sheet, ["a0", "a1", "b0", "b1"], 4)
    assert [name[0] for name in shown] == ["a", "b", "a", "b"]
    assert sorted(shown) == ["a0", "a1", "b0", "b1"]


def pictures_on(sheet: Image.Image, names: list[str], count: int) -> list[str]:
    """Which of the pictures `names` stand in the first `count` cells of a sheet."""
    starts = [GAP + at * (SIDE + GAP) for at in range(count)]
    cells = [np.asarray(sheet)[GAP : GAP + SIDE, at : at + SIDE].astype(int) for at in starts]
    originals = {name: np.asarray(picture(name, 96, 96)).astype(int) for name in names}
    return [min(originals, key=lambda name, cell=cell: np.abs(originals[name] - cell).mean()) for cell in cells]


def test_the_sample_sheet_shows_kept_pictures_only(tiny_janus: Path, tmp_path: Path) -> None:
    """One is dropped by a filter, one because its row gets too long, two are duplicates of each other."""
    folder = image_folder(tmp_path / "photos", ["kept", "twin", "long"], width=96, height=96)
    lines = (folder / "captions.jsonl").read_text().splitlines()
    lines[2] = json.dumps({"image": "long.jpg", "caption": "word " * 200})
    lines.append(json.dumps({"image": "short.jpg", "caption": "Short."}))
    (folder / "twin2.jpg").write_bytes((folder / "twin.jpg").read_bytes())
    lines.append(json.dumps({"image": "twin2.jpg", "caption": "The same picture once more, with another caption."}))
    picture("short", 96, 96).save(folder / "short.jpg", quality=90)
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    source = folder_source(folder, filters={"caption_length": {"min_words": 2}})
    wanted: CorpusSpec = make_spec(tiny_janus, [source], dedup={"near_radius": None}, tokenize={"max_length": 200})
    snapshot = build(wanted, tmp_path / "corpus", Operations())
    lost = {"duplicate_exact": 1, "caption_length": 1, "too_long": 1}
    assert snapshot.funnel["photos"] == lost | {"rows": 5, "kept": 2}
    sheet = sample_sheet(tmp_path / "corpus", snapshot)
    assert sheet is not None
    assert sorted(pictures_on(sheet, ["kept", "twin", "long", "short"], 2)) == ["kept", "twin"]
    assert sheet.width == 2 * (SIDE + GAP) + GAP
