"""The health gate, at whole builds: what fails too much is neither committed nor believed if it once was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.build import build
from schemas.reasons import Outcome
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, spec


def test_an_unhealthy_shard_is_not_committed(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)))
    for name in range(20, 31):
        (photos / f"{name}.jpg").unlink()
    settings = spec(model, [folder_source(photos)], shard_rows=20)
    with pytest.raises(ValueError, match=r"download: 1 of 2 shards failed") as error:
        build(settings, tmp_path / "c", Operations())
    line = str(error.value).splitlines()[1]
    assert "photos/" in line
    assert "11 of 20 rows failed (missing_file 11), more than max_failed_share = 0.5" in line
    assert len(list((tmp_path / "c/raw/photos").glob("*.arrow"))) == 1, "the healthy shard is done"
    assert not (tmp_path / "c/LATEST").exists()
    tolerant = settings.model_copy(update={"max_failed_share": 0.7})
    assert build(tolerant, tmp_path / "c", Operations()).funnel["photos"][Outcome.MISSING_FILE] == 11


def test_a_lowered_gate_is_held_against_shards_of_earlier_builds(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)))
    for name in range(20, 28):
        (photos / f"{name}.jpg").rename(photos / f"{name}.away")
    settings = spec(model, [folder_source(photos)], shard_rows=20)
    build(settings, tmp_path / "c", Operations())
    strict = settings.model_copy(update={"max_failed_share": 0.3})
    with pytest.raises(ValueError, match=r"download: 1 of 2 shards failed") as error:
        build(strict, tmp_path / "c", Operations())
    line = str(error.value).splitlines()[1]
    assert "8 of 20 rows failed (missing_file 8), more than max_failed_share = 0.3; raise it in the spec, or" in line
    # The way out that the line names.
    (tmp_path / "c" / line.rsplit(maxsplit=1)[1]).unlink()
    for name in range(20, 28):
        (photos / f"{name}.away").rename(photos / f"{name}.jpg")
    assert Outcome.MISSING_FILE not in build(strict, tmp_path / "c", Operations()).funnel["photos"]


def test_a_decoder_that_fails_stops_the_build_at_measure(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(24)))
    for file in photos.glob("*.jpg"):
        file.write_bytes(file.read_bytes()[:700])
    settings = spec(model, [folder_source(photos)], shard_rows=24)
    with pytest.raises(ValueError, match=r"measure: 1 of 1 shards failed") as error:
        build(settings, tmp_path / "c", Operations())
    assert "24 of 24 rows failed (bad_image 24), more than max_failed_share = 0.5; not committed" in str(error.value)
    assert not [path for path in (tmp_path / "c/signals").rglob("*") if path.is_file()]
    assert not (tmp_path / "c/LATEST").exists()


def test_a_template_that_does_not_fit_stops_the_build_at_tokenize(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    lines = [f'{{"text": "Document number {n} is about {"many colours" if n < 30 else "one"}."}}' for n in range(60)]
    (tmp_path / "text/pages.jsonl").write_text("\n".join(lines) + "\n")
    source = {"name": "text", "format": "text", "path": str(tmp_path / "text"), "task": "text", "template": "chat"}
    # Of the 60 rows 30 are dropped: they do not make up for the others, of which all fail.
    settings = spec(model, [source], shard_rows=60, filters={"caption_length": {"min_words": 7}})
    with pytest.raises(ValueError, match=r"tokenize: 1 of 1 shards failed") as error:
        build(settings, tmp_path / "c", Operations())
    assert "30 of 30 rows failed (tokenize_failed 30), more than max_failed_share = 0.5" in str(error.value)
    assert not (tmp_path / "c/LATEST").exists()
