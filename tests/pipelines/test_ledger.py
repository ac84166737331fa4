"""The ledger: a shard exists when its manifest does, under a name that says everything it depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import ledger
from pipelines.shardio import ShardError, write_table
from schemas.layers import DECISION
from schemas.manifest import ShardManifest

SPEC = ledger.StepSpec("decision", 1, {"min_side": 64}, {"scorer": "abc"})
INPUTS = {"signals": "1" * 64}


def commit(corpus: Path, spec: ledger.StepSpec = SPEC) -> ShardManifest:
    path = ledger.shard_path("decision", "photos", "f" * 16, spec.key(INPUTS))
    row = {"uid": bytes(16), "outcome": "ok", "reason": None, "duplicate_of": None}
    written = write_table(corpus, path, DECISION, pa.Table.from_pylist([row], schema=DECISION))
    return ledger.commit(
        corpus, spec, source="photos", task="text", shard="f" * 16, inputs=INPUTS, written=written,
        counts={"kept": 1, "too_small": 0},
    )  # fmt: skip


def test_a_committed_shard_is_found_and_read(tmp_path: Path) -> None:
    manifest = commit(tmp_path)
    path = ledger.path_of(manifest)
    assert ledger.find(tmp_path, path) == manifest
    assert manifest.counts == {"kept": 1}
    assert ledger.open_input(tmp_path, path)[1].table().num_rows == 1
    assert ledger.manifests(tmp_path, "decision", "photos") == {"f" * 16: [manifest]}


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, version=2),
        replace(SPEC, layer="train"),
        replace(SPEC, config={"min_side": 65}),
        replace(SPEC, fingerprints={"scorer": "abd"}),
        replace(SPEC, fingerprints={}),
    ],
)
def test_whatever_changes_the_bytes_changes_the_key(other: ledger.StepSpec) -> None:
    assert other.key(INPUTS) != SPEC.key(INPUTS)


def test_the_inputs_content_changes_the_key_and_their_order_does_not() -> None:
    assert SPEC.key({"raw": "1", "decision": "2"}) == SPEC.key({"decision": "2", "raw": "1"})
    assert SPEC.key({"raw": "1"}) != SPEC.key({"raw": "2"})


def test_a_file_without_its_manifest_does_not_exist(tmp_path: Path) -> None:
    path = ledger.path_of(commit(tmp_path))
    (tmp_path / ledger.manifest_path(path)).unlink()
    assert ledger.find(tmp_path, path) is None


def test_a_manifest_whose_file_has_another_size_or_is_gone_is_not_believed(tmp_path: Path) -> None:
    path = ledger.path_of(commit(tmp_path))
    whole = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(whole[:-1])
    assert ledger.find(tmp_path, path) is None
    (tmp_path / path).unlink()
    assert ledger.find(tmp_path, path) is None


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 1}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str) -> None:
    path = ledger.path_of(commit(tmp_path))
    (tmp_path / ledger.manifest_path(path)).write_text(text)
    assert ledger.find(tmp_path, path) is None
    with pytest.raises(ShardError, match=r"not a manifest of format 2; delete it and build again") as error:
        ledger.load_manifest(tmp_path, path)
    assert "\n" not in str(error.value)


def test_a_manifest_moved_to_another_name_is_refused(tmp_path: Path) -> None:
    path = ledger.path_of(commit(tmp_path))
    moved = path.replace("f" * 16, "e" * 16)
    (tmp_path / path).rename(tmp_path / moved)
    (tmp_path / ledger.manifest_path(path)).rename(tmp_path / ledger.manifest_path(moved))
    with pytest.raises(ShardError, match="describes"):
        ledger.load_manifest(tmp_path, moved)


def test_one_build_at_a_time(tmp_path: Path) -> None:
    with ledger.locked(tmp_path):
        second = ledger.locked(tmp_path)
        with pytest.raises(ledger.CorpusBusy, match="another build is running"):
            second.__enter__()
    with ledger.locked(tmp_path):
        pass


def test_a_build_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    path = ledger.path_of(commit(tmp_path))
    (tmp_path / "snapshots").mkdir()
    left = [tmp_path / folder / ".tmp-0123-x.json" for folder in ("decision/photos", "snapshots", ".")]
    for file in left:
        file.write_bytes(b"half")
    ledger.sweep(tmp_path)
    assert not any(file.exists() for file in left)
    assert ledger.find(tmp_path, path) is not None
