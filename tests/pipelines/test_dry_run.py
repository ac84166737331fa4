"""What a build would take, held against what it takes; and that asking leaves no trace."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import janus_forge
from janus import cli
from janus.cli import Collected
from pipelines.build import build
from pipelines.dry_run import LAYERS, WEB_IMAGE_BYTES, Estimate, dry_run
from pipelines.sources import preview
from schemas.spec import CorpusSpec, Operations, Source
from tests.pipelines.world import folder_source, image_folder, spec


def estimates(settings: CorpusSpec, corpus: Path) -> dict[str, Estimate]:
    mistakes = Collected()
    _, found = dry_run(settings, corpus, mistakes)
    mistakes.tell()
    return {one.source: one for one in found}


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def test_the_estimate_is_what_a_build_takes(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)), width=96, height=80)
    sources = [
        folder_source(photos, "drawn"),
        folder_source(photos, "described", "understanding", template="describe"),
        folder_source(photos, "part", filters={"sample": {"share": 0.5}}),
    ]
    settings = spec(model, sources, dedup={"exact": False, "near_radius": False}, shard_rows=20)
    before = tree(tmp_path)
    found = estimates(settings, tmp_path / "c")
    assert tree(tmp_path) == before
    snapshot = build(settings, tmp_path / "c", Operations())
    for name, one in found.items():
        shards = [shard for shard in snapshot.shards if shard.source == name]
        assert one.rows == (40, True)
        assert (one.new, one.to_fetch) == (40, 0)
        for layer in LAYERS:
            folders = (tmp_path / "c").glob(f"{layer}/*/{name}" if layer == "signals" else f"{layer}/{name}")
            real = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
            room = 0.5 if name == "part" and layer == "train" else 0.2
            assert one.bytes[layer] == pytest.approx(real, rel=room), (name, layer)
        if name != "part":
            tables = [pa.ipc.open_file(tmp_path / "c" / shard.path).read_all() for shard in shards]
            assert one.tokens == sum(sum(table["length"].to_pylist()) for table in tables)
    assert found["drawn"].gpu_images == 40
    assert (found["described"].gpu_images, found["part"].gpu_images) == (0, 20)
    again = estimates(settings, tmp_path / "c")
    assert [one.new for one in again.values()] == [0, 0, 0]


def test_captions_that_a_model_is_to_write_are_counted(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)))
    sources = [folder_source(photos, recaption=0.5), folder_source(photos, "plain")]
    engine = {"engine": "openai", "options": {"model": "vlm", "url": "http://127.0.0.1:9/v1"}}
    text, (one, plain) = dry_run(spec(model, sources, recaption=engine), tmp_path / "c", Collected())
    assert (one.captions, plain.captions) == (20, 0)
    assert one.bytes["recaption"] > 40 * 16
    assert plain.bytes["recaption"] == 0
    assert "captions to write: 20, by openai;" in text
    assert "recaption" in text.splitlines()[0]


def rows_of(tmp_path: Path, **source: Any) -> Any:
    given = {"name": "s", "path": str(tmp_path), "task": "generation"} | source
    settings = spec(tmp_path, [given])
    mistakes = Collected()
    found = dry_run(settings, tmp_path / "c", mistakes)[1]
    assert all("config.json" in str(error) for error in mistakes.errors), mistakes.errors  # there is no model
    return found[0]


def test_rows_of_long_files_come_from_footers_and_sizes(tmp_path: Path) -> None:
    rows = [{"url": f"http://a.test/{n}.jpg", "caption": f"Picture {n}."} for n in range(3000)]
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{part}.parquet")
    one = rows_of(tmp_path, format="url_list")
    assert one.rows == (6000, True)
    assert one.to_fetch == 6000
    assert one.bytes["raw"] == pytest.approx(6000 * WEB_IMAGE_BYTES, rel=0.01)
    assert one.tokens is None
    half = rows_of(tmp_path, format="url_list", where="caption > 'Picture 3'")
    assert not half.rows.exact
    (tmp_path / "lines").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "lines" / "a.jsonl").write_text(lines)
    one = rows_of(tmp_path / "lines", format="url_list")
    assert one.rows.rows == 3000
    assert rows_of(tmp_path / "lines", format="url_list", limit=250).rows.rows == 250


def test_long_documents_are_more_rows_than_lines(tmp_path: Path) -> None:
    texts = "".join(json.dumps({"text": "word " * 500}) + "\n" for _ in range(400))
    (tmp_path / "a.jsonl").write_text(texts)
    given = {"format": "text", "task": "text", "options": {"max_chars": 1250}}
    assert len(list(preview(Source(name="s", path=str(tmp_path), **given)))) == 100
    rows = rows_of(tmp_path, **given).rows
    assert rows.rows == pytest.approx(800, rel=0.1)
    assert not rows.exact


def test_the_command_prints_it_and_then_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "photos", list(range(4)))
    model = tmp_path / "nowhere" / "janus"
    (tmp_path / "spec.toml").write_text(
        f'name = "x"\nstage = 1\nmodels.janus = "{model}"\n[[sources]]\nname = "photos"\nformat = "image_folder"\n'
        'path = "{here}/photos"\ntask = "generation"\n'
    )
    before = tree(tmp_path)
    words = ["corpus", "build", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out"), "--dry-run"]
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        janus_forge.run_command(words)
    cli._STARTED_AS.clear()
    printed = capsys.readouterr().out
    assert "photos" in printed
    assert f"model janus {model}: not there" in printed
    assert "200 images a second" in printed
    assert tree(tmp_path) == before
