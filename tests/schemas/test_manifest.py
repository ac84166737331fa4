"""Snapshots: named by their content, and not believed when changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.manifest import Fingerprints, Snapshot, SnapshotShard, load_snapshot

FINGERPRINTS = Fingerprints(
    tokenizer="t",
    image_processor="i",
    vq="v",
    image_size=64,
    understanding_tokens=16,
    generation_tokens=64,
    codebook_size=512,
    pixels="jpeg",
)


def shard(task: str, rows: int) -> SnapshotShard:
    return SnapshotShard.model_validate(
        {
            "path": f"train/{task}.arrow",
            "sha256": "0" * 64,
            "rows": rows,
            "bytes": 1,
            "source": "s",
            "task": task,
            "group": "",
            "upstream": {},
            "first_snapshot": 0,
        }
    )


def publish(corpus: Path, **changes: object) -> Snapshot:
    values: dict[str, object] = {
        "corpus": "c",
        "stage": 2,
        "number": 0,
        "parent": None,
        "spec": "d",
        "fingerprints": FINGERPRINTS,
        "shards": (shard("text", 3), shard("generation", 5)),
        "funnel": {},
        "length_histogram": {},
        "licences": {},
    }
    snapshot = Snapshot.model_validate({**values, **changes})
    folder = corpus / "snapshots"
    folder.mkdir(exist_ok=True)
    (folder / f"{snapshot.name}.json").write_text(snapshot.model_dump_json())
    (corpus / "LATEST").write_text(snapshot.name)
    return snapshot


def test_latest_and_older_snapshots_load(tmp_path: Path) -> None:
    first = publish(tmp_path)
    second = publish(tmp_path, number=1, parent=first.name)
    assert load_snapshot(tmp_path) == second
    assert load_snapshot(tmp_path, first.name) == first
    assert first.rows() == 8
    assert first.rows("generation") == 5


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    snapshot = publish(tmp_path)
    path = tmp_path / "snapshots" / f"{snapshot.name}.json"
    path.write_text(path.read_text().replace('"rows":5', '"rows":6'))
    with pytest.raises(ValueError, match="changed after publication"):
        load_snapshot(tmp_path)


@pytest.mark.parametrize("name", ["00000-nothing", "../secret", "a/b"])
def test_an_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    publish(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such snapshot"):
        load_snapshot(tmp_path, name)


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="build the corpus first"):
        load_snapshot(tmp_path)
