"""Verify finds every kind of damage and says each in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.build import build
from pipelines.ledger import load_manifest
from pipelines.shardio import ShardError
from pipelines.verify import verify
from schemas.digest import canonical_json
from schemas.manifest import ShardManifest, load_snapshot
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, spec


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    sources = [folder_source(image_folder(root / "a", list(range(12))))]
    build(spec(model, sources), root / "c", Operations())
    return root / "c"


@pytest.fixture
def corpus(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "c"))


def shard(corpus: Path, layer: str) -> Path:
    return sorted((corpus / layer / "photos").glob("*.arrow"))[0]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_manifest(**changes: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        file = path.with_suffix(".json")
        edited = ShardManifest.model_validate(json.loads(file.read_text()) | changes)
        file.write_bytes(canonical_json(edited.sealed()))

    return edit


def test_a_whole_corpus_has_no_differences(whole: Path) -> None:
    report = verify(whole)
    assert report.differences == ()
    assert (report.shards, report.snapshots) == (14, 1)
    assert report.bytes == sum(path.stat().st_size for path in whole.rglob("*.arrow"))


@pytest.mark.parametrize("layer", ["rows", "raw", "signals/image", "signals/phash", "decision", "train"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "flipped bit?"),
        (cut, "truncated?"),
        (Path.unlink, "missing although its manifest exists"),
        (lambda path: path.with_suffix(".json").unlink(), "which is missing or damaged"),
        (lambda path: path.with_suffix(".json").write_text("{"), "not a manifest of format 2"),
    ],
    ids=["flip", "cut", "missing", "no-manifest", "bad-manifest"],
)
def test_damage_is_named(corpus: Path, layer: str, damage: Callable[[Path], object], says: str) -> None:
    victim = shard(corpus, layer)
    damage(victim)
    differences = verify(corpus).differences
    name = victim.relative_to(corpus).with_suffix("").as_posix()
    assert any(name in line and says in line for line in differences), differences
    assert all("\n" not in line for line in differences)


@pytest.mark.parametrize(
    ("layer", "changes", "says"),
    [
        ("decision", {"counts": {"kept": 7, "too_small": 1}}, "counted {'kept': 8}, its manifest says {'kept': 7}"),
        ("raw", {"counts": {"ok": 8, "timeout": 1}}, "accounts for 9 of 8 rows"),
        ("train", {"inputs": {"raw": "0" * 64}}, "was made from another raw shard"),
        ("train", {"summary": {"lengths": {"128": 8}, "licences": {"": 7, "CC0": 1}}}, "its manifest sums up lengths="),
        ("signals/phash", {"rows": 7}, "holds 8 rows, its manifest says 7"),
        ("signals/phash", {"counts": {"measured": 7, "not_measured": 1}}, "counted {'measured': 8}"),
        ("signals/image", {"counts": {"ok": 7, "bad_image": 1}}, "counted {'ok': 8}"),
    ],
)
def test_counts_and_lineage_are_checked(corpus: Path, layer: str, changes: dict[str, object], says: str) -> None:
    for path in (corpus / layer / "photos").glob("*.arrow"):
        if json.loads(path.with_suffix(".json").read_text())["rows"] == 8:
            edit_manifest(**changes)(path)
    differences = verify(corpus).differences
    assert any(says in line for line in differences), differences


def test_a_damaged_spec_is_named(corpus: Path) -> None:
    (victim,) = (corpus / "specs").iterdir()
    flip(victim)
    (difference,) = verify(corpus).differences
    assert difference.startswith(f"specs/{victim.name}: damaged; ")


def test_no_flipped_bit_of_a_manifest_is_believed(corpus: Path) -> None:
    """Every seventh bit of one manifest per layer; what is left of the file is what `load_manifest` trusts."""
    for layer in ("rows", "raw", "signals/phash", "decision", "train"):
        victim = shard(corpus, layer)
        path, file = victim.relative_to(corpus).as_posix(), victim.with_suffix(".json")
        whole = file.read_bytes()
        assert load_manifest(corpus, path).is_sealed
        for bit in range(0, 8 * len(whole), 7):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            with pytest.raises(ShardError, match=file.stem):
                load_manifest(corpus, path)
        file.write_bytes(whole)


def test_an_edited_summary_is_not_published(whole: Path, model: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(whole, tmp_path / "c"))
    published = load_snapshot(corpus)
    for file in (corpus / "train" / "photos").glob("*.json"):
        file.write_text(file.read_text().replace('"licences":{"":', '"licences":{"CC0":', 1))
    assert any("changed since it was written" in line for line in verify(corpus).differences)
    again = build(spec(model, [folder_source(whole.parent / "a")]), corpus, Operations())
    assert again == published, "the shards were made again"
    assert verify(corpus).differences == ()


def test_a_changed_snapshot_is_found(corpus: Path) -> None:
    (path,) = (corpus / "snapshots").iterdir()
    path.write_text(path.read_text().replace('"kept":12', '"kept":13'))
    assert any("the file was changed after publication" in line for line in verify(corpus).differences)


def test_a_funnel_that_does_not_add_up_is_found(corpus: Path) -> None:
    snapshot = load_snapshot(corpus)
    forged = snapshot.model_copy(update={"funnel": {"photos": {"rows": 12, "kept": 11}}})
    (corpus / "snapshots" / f"{forged.name}.json").write_bytes(canonical_json(forged))
    assert any("funnel of photos: 12 rows in, 11 accounted for" in line for line in verify(corpus).differences)


@pytest.mark.parametrize(
    ("field", "forged"), [("length_histogram", {"generation": {"128": 13}}), ("licences", {"CC0-1.0": 12})]
)
def test_forged_figures_are_found(corpus: Path, field: str, forged: object) -> None:
    snapshot = load_snapshot(corpus).model_copy(update={field: forged})
    (corpus / "snapshots" / f"{snapshot.name}.json").write_bytes(canonical_json(snapshot))
    (line,) = verify(corpus).differences
    assert line.startswith(f"snapshot {snapshot.name}: {field} says {forged}, its shards say ")


def test_latest_is_checked(corpus: Path) -> None:
    (corpus / "LATEST").write_text("00009-000000000000\n")
    assert verify(corpus).differences == ("LATEST: names '00009-000000000000', which is no snapshot of this corpus",)
    (corpus / "LATEST").unlink()
    assert "LATEST: missing" in verify(corpus).differences[0]


def test_the_command_exits_1_with_a_line_per_difference(corpus: Path) -> None:
    flip(shard(corpus, "raw"))
    command = [sys.executable, "-m", "pipelines.verify", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(verify(corpus).differences) + 1
    assert lines[-1].endswith("differences")


@pytest.mark.parametrize(("folder", "says"), [("nowhere", "no such corpus folder"), (".", "no corpus in this folder")])
def test_what_is_no_corpus_is_not_called_well(tmp_path: Path, folder: str, says: str) -> None:
    (tmp_path / "corpus" / "raw").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=says):
        verify(tmp_path / folder)
