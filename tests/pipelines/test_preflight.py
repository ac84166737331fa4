"""What is wrong with a spec or its sources is told at once, before anything is planned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from janus.cli import Mistakes
from pipelines.build import build
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, spec


def captions(root: Path, name: str, field: str, image: bytes | None) -> dict[str, Any]:
    """A source of 30 captions in `field`; `image` is what its files hold, None for no files."""
    folder = root / name
    folder.mkdir()
    rows = [{"image": f"{n}.jpg", field: f"Picture {n}."} for n in range(30)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n in range(30 if image is not None else 0):
        (folder / f"{n}.jpg").write_bytes(image or b"")
    return folder_source(folder) | {"name": name}


def mistakes(model: Path, root: Path, sources: list[dict[str, Any]]) -> tuple[str, ...]:
    with pytest.raises(Mistakes) as caught:
        build(spec(model, sources), root / "c", Operations())
    assert [path.name for path in (root / "c").iterdir()] == [".lock"], "nothing was planned"
    return caught.value.lines


def test_a_wrong_column_in_the_last_source_is_told_before_planning(model: Path, tmp_path: Path) -> None:
    good = [folder_source(image_folder(tmp_path / n, [1, 2])) | {"name": n} for n in ("a", "b")]
    [line] = mistakes(model, tmp_path, [*good, captions(tmp_path, "last", "txt", b"x")])
    assert "last" in line
    assert "caption" in line


def test_three_mistakes_in_three_sources_are_told_at_once(model: Path, tmp_path: Path) -> None:
    column = captions(tmp_path, "column", "txt", b"x")
    missing = captions(tmp_path, "missing", "caption", None)
    no_picture = captions(tmp_path, "nopicture", "caption", b"no picture")
    lines = mistakes(model, tmp_path, [column, missing, no_picture])
    assert len(lines) == 3
    assert "source column" in lines[0]
    assert "source missing: none of the images of its first rows is there" in lines[1]
    assert "source nopicture: none of its first images can be used" in lines[2]
