"""Rows that a source does not give: failed ones are in the funnel, skipped ones in the snapshot, and all add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines import ledger
from pipelines.build import build
from pipelines.engine import StepFailed
from pipelines.readings import read_reading
from pipelines.verify import verify
from schemas.manifest import Snapshot
from schemas.spec import Operations
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec


def mixture(root: Path, numbers: range) -> dict[str, Any]:
    """A LLaVA file: of ten rows six have a picture, two have none, one is broken, one names a file outside."""
    root.mkdir(parents=True, exist_ok=True)
    rows: list[Any] = []
    for n in numbers:
        turns = [{"from": "human", "value": f"What is number {n}?"}, {"from": "gpt", "value": f"It is {n}."}]
        row: dict[str, Any] = {"id": n, "score": n % 4, "conversations": turns}
        if n % 10 == 8:
            row["conversations"] = [{"from": "narrator", "value": "once"}]
        if n % 10 not in (3, 6):
            picture(n).save(root / f"{n}.jpg", quality=90)
            row["image"] = "../x.jpg" if n % 10 == 9 else f"{n}.jpg"
        rows.append(row)
    (root / "a.json").write_text(json.dumps(rows))
    return {
        "name": "mix", "format": "llava", "path": str(root), "task": "understanding", "template": "chat",
        "max_unreadable": 0.3,
    }  # fmt: skip


def test_every_row_has_a_fate(model: Path, tmp_path: Path) -> None:
    source = mixture(tmp_path / "mix", range(30))
    snapshot = build(spec(model, [source], stage=3), tmp_path / "c", Operations())
    assert snapshot.funnel["mix"] == {"rows": 24, "kept": 18, "bad_row": 3, "forbidden_path": 3}
    assert snapshot.skipped == {"mix": {"other_task": 6}}
    assert sum(snapshot.funnel["mix"].values()) - 24 + sum(snapshot.skipped["mix"].values()) == 30
    reading = read_reading(tmp_path / "c", "mix", [entry.upstream["rows"] for entry in snapshot.shards])
    assert reading is not None
    assert (reading.rows, reading.failed, reading.skipped) == (
        24,
        {"bad_row": 3, "forbidden_path": 3},
        {"other_task": 6},
    )
    assert "a.json[8]: conversations[0]: unknown speaker 'narrator'" in reading.examples["bad_row"][0]
    keys = {row["key"]: row["outcome"] for row in raw(tmp_path / "c", snapshot) if row["outcome"] != "ok"}
    assert keys == {f"a.json[{n}]": "bad_row" if n % 10 == 8 else "forbidden_path" for n in (8, 9, 18, 19, 28, 29)}
    assert verify(tmp_path / "c").differences == ()


def raw(corpus: Path, snapshot: Snapshot) -> list[dict[str, Any]]:
    tables = [ledger.open_input(corpus, entry.upstream["raw"])[1].table() for entry in snapshot.shards]
    return [row for table in tables for row in table.to_pylist()]


def test_a_refresh_counts_what_the_source_holds_then(model: Path, tmp_path: Path) -> None:
    settings = spec(model, [mixture(tmp_path / "mix", range(20))], stage=3)
    first = build(settings, tmp_path / "c", Operations())
    assert build(settings, tmp_path / "c", Operations()) == first, "nothing new, no snapshot"
    mixture(tmp_path / "mix", range(30))
    second = build(settings, tmp_path / "c", Operations())
    assert (second.number, second.skipped) == (2, {"mix": {"other_task": 6}})
    fresh = build(settings, tmp_path / "fresh", Operations())
    assert second.funnel == fresh.funnel


def test_where_and_columns_reach_the_raw_layer(model: Path, tmp_path: Path) -> None:
    source = mixture(tmp_path / "mix", range(30)) | {"where": "score >= 2", "columns": ["score", "id"]}
    snapshot = build(spec(model, [source], stage=3), tmp_path / "c", Operations())
    assert snapshot.skipped["mix"]["where"] == sum(n % 4 < 2 for n in range(30))
    for row in raw(tmp_path / "c", snapshot):
        if row["outcome"] == "ok":
            columns = dict(row["columns"])
            assert columns.keys() == {"score", "id"}
            assert int(columns["score"]) == int(columns["id"]) % 4 >= 2
        else:
            assert row["columns"] is None


def test_a_source_without_a_row_stops_the_build(model: Path, tmp_path: Path) -> None:
    source = mixture(tmp_path / "mix", range(10)) | {"where": "score > 99"}
    photos = folder_source(image_folder(tmp_path / "photos", [1, 2]))
    with pytest.raises(StepFailed, match=r"mix: source mix: .*no row: every row was skipped \(where 10\)"):
        build(spec(model, [photos, source], stage=3), tmp_path / "c", Operations())
    assert not (tmp_path / "c" / "LATEST").exists()
    snapshot = build(spec(model, [photos, source | {"allow_empty": True}]), tmp_path / "c", Operations())
    assert snapshot.skipped == {"mix": {"where": 10}}


def test_a_snapshot_without_a_row_is_not_published(model: Path, tmp_path: Path) -> None:
    source = folder_source(image_folder(tmp_path / "photos", [1, 2]))
    filters = {"caption_length": {"min_words": 99}}
    allowed = source | {"allow_empty": True}
    other = folder_source(image_folder(tmp_path / "more", [3]), name="more")
    with pytest.raises(ValueError, match=r"no row is kept \(caption_length 3\), so nothing is published; allow_empty"):
        build(spec(model, [allowed, other], filters=filters), tmp_path / "c", Operations())
    assert not (tmp_path / "c" / "LATEST").exists()
    assert build(spec(model, [allowed], filters=filters), tmp_path / "c", Operations()).rows() == 0


def test_a_corpus_does_not_say_where_an_image_folder_lies(model: Path, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        source = mixture(tmp_path / name / "mix", range(10))
        images = tmp_path / name / f"images-{name}"
        images.mkdir()
        for image in (tmp_path / name / "mix").glob("*.jpg"):
            shutil.move(image, images)
        source["options"] = {"images": str(images)}
        build(spec(model, [source], stage=3), tmp_path / name / "c", Operations())
        files = contents(tmp_path / name / "c")
        made.append({path: digest for path, digest in files.items() if not path.startswith("readings/")})
    assert made[0] == made[1]
