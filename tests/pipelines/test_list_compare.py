"""`list` and `compare` say what is there, and what came, went and changed."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from pipelines import compare as compare_command
from pipelines import ledger
from pipelines import list as list_command
from pipelines.build import build
from pipelines.compare import compare
from pipelines.list import corpora
from pipelines.looking.snapshots import at, find_snapshot
from pipelines.removal.entries import Purge, end
from schemas.spec import Operations
from storage.places import as_store
from tests.pipelines.test_changes import captions, write
from tests.pipelines.world import folder_source, image_folder, picture, spec


@pytest.fixture(scope="module")
def root(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two snapshots: of ten rows one changed its caption, one went, two came; `size` became stricter."""
    root = tmp_path_factory.mktemp("two")
    photos = image_folder(root / "photos", list(range(9)))
    picture("small", 40, 34).save(photos / "small.jpg", quality=90)
    write(photos, captions(photos) | {"small.jpg": "A smaller one."})
    source = folder_source(photos, on_removed="drop")
    build(spec(model, [source], shard_rows=4), root / "corpora" / "photos", Operations())
    texts = captions(photos)
    del texts["2.jpg"]
    picture(20).save(photos / "20.jpg", quality=90)
    picture(3).save(photos / "copy.jpg", quality=90)
    write(photos, texts | {"0.jpg": "Other words.", "20.jpg": "The twentieth.", "copy.jpg": "The third once more."})
    filters = {"size": {"min_side": 36}}
    build(spec(model, [source], shard_rows=4, filters=filters), root / "corpora" / "photos", Operations())
    return root / "corpora"


def test_a_list_says_what_is_on_the_disk(root: Path) -> None:
    (found,) = corpora(root)
    corpus = root / "photos"
    files = [path for path in corpus.rglob("*") if path.is_file()]
    assert (found.place, found.name, found.problems) == (str(corpus), "test", ())
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert [one.number for one in found.snapshots] == [1, 2]
    assert [one.latest for one in found.snapshots] == [False, True]
    assert [one.rows for one in found.snapshots] == [{"generation": 10}, {"generation": 9}]
    for one in found.snapshots:
        snapshot = find_snapshot(corpus, str(one.number))
        paths = {path for entry in snapshot.shards for path in (entry.path, *entry.upstream.values())}
        needed = paths | {ledger.manifest_path(path) for path in paths}
        assert one.bytes == sum((corpus / path).stat().st_size for path in needed)
        assert one.train_bytes == sum((corpus / entry.path).stat().st_size for entry in snapshot.shards)
    assert found.unused_bytes == 0
    assert corpora(corpus) == [found]


def test_what_a_purge_leaves_is_no_unused_shard(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "photos", tmp_path / "photos")
    end(as_store(tmp_path / "photos"), Purge(time="2026-01-01T00:00:00Z", uids=()))
    (found,) = corpora(tmp_path)
    assert found.unused_bytes == 0


def test_a_list_tells_unfinished_and_damaged_corpora(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "photos", tmp_path / "damaged")
    shutil.copytree(root / "photos" / "rows", tmp_path / "begun" / "rows")
    (name,) = (one.name for one in corpora(root)[0].snapshots if not one.latest)
    with (tmp_path / "damaged" / "snapshots" / f"{name}.json").open("a") as file:
        file.write(" {")
    begun, damaged = corpora(tmp_path)
    assert (begun.name, begun.snapshots, begun.unused_bytes) == (None, (), begun.bytes)
    assert len(damaged.snapshots) == 1
    assert len(damaged.problems) == 1
    assert name in damaged.problems[0]


def test_a_comparison_says_what_came_went_and_changed(root: Path) -> None:
    found = compare(at(f"{root}/photos@1"), at(f"{root}/photos"))
    assert found.came == {"photos": {"duplicate_exact": 1, "kept": 2}}
    assert found.went == {}
    assert found.changed == {"photos": {"kept -> removed": 1, "kept -> too_small": 1, "kept -> updated": 1}}
    assert (found.same, found.a["rows"], found.b["rows"]) == (7, 10, 13)
    assert [line.split(":")[0] for line in found.settings] == ["spec"]
    back = compare(at(f"{root}/photos"), at(f"{root}/photos@1"))
    assert (back.went, back.came, back.same) == (found.came, {}, 7)
    assert back.changed == {"photos": {"removed -> kept": 1, "too_small -> kept": 1, "updated -> kept": 1}}


def test_two_corpora_are_compared_by_uid(root: Path, model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 3, 3000])
    write(photos, captions(photos))
    other = build(spec(model, [folder_source(photos)]), tmp_path / "c", Operations())
    found = compare(at(f"{root}/photos@1"), at(str(tmp_path / "c")))
    assert (found.same, found.came) == (2, {"photos": {"kept": 1}})
    assert found.went == {"photos": {"kept": 8}}
    assert compare(at(str(tmp_path / "c")), at(str(tmp_path / "c"))).same == other.rows()


def test_a_row_twice_in_a_source_is_counted_twice(root: Path, model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", [1, 2])
    lines = (photos / "captions.jsonl").read_text()
    build(spec(model, [folder_source(photos)]), tmp_path / "once", Operations())
    (photos / "captions.jsonl").write_text(lines + lines)
    build(spec(model, [folder_source(photos)]), tmp_path / "twice", Operations())
    found = compare(at(str(tmp_path / "once")), at(str(tmp_path / "twice")))
    assert (found.same, found.came, found.went, found.changed) == (2, {"photos": {"duplicate_exact": 2}}, {}, {})


def test_commands_print_tables_and_json(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["list", str(root), "--json"])
    assert list_command.main() == 0
    assert json.loads(capsys.readouterr().out)[0]["snapshots"][1]["latest"] is True
    monkeypatch.setattr(sys, "argv", ["list", str(root)])
    assert list_command.main() == 0
    shown = capsys.readouterr().out
    assert f"{root}/photos: test" in shown
    assert Counter(line.split("-")[0] for line in shown.splitlines())["00001"] == 1
    monkeypatch.setattr(sys, "argv", ["compare", f"{root}/photos@1", f"{root}/photos@2", "--json"])
    assert compare_command.main() == 0
    assert json.loads(capsys.readouterr().out)["same"] == 7
    monkeypatch.setattr(sys, "argv", ["compare", f"{root}/photos@1", f"{root}/photos@2"])
    assert compare_command.main() == 0
    shown = capsys.readouterr().out
    assert "kept -> updated" in shown
    assert "published 20" in shown


@pytest.mark.parametrize("wanted", ["7", "00001-ffffff", "x", ""])
def test_a_snapshot_that_is_not_there_is_told_in_one_line(root: Path, wanted: str) -> None:
    with pytest.raises(FileNotFoundError, match="does not name one snapshot; there is 00001-"):
        find_snapshot(root / "photos", wanted)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        corpora(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="no such corpus folder"):
        at(str(tmp_path / "x@1"))
