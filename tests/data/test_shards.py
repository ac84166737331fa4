"""Reading shards: values equal to pyarrow's own, nothing copied that need not be, damage refused in one line."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from janus.data.shards import Pool, Shard, check_files, check_fingerprints, pool_shards
from schemas.layers import DECISION
from schemas.manifest import Snapshot
from tests.data.make import MADE_WITH, MadeSource, make_corpus, make_row, write_shard

SOURCES = [
    MadeSource("pages", "understanding", 130, images=2),
    MadeSource("captions", "generation", 170),
    MadeSource("books", "text", 40),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, make_corpus(folder, SOURCES, shard_rows=100)


def rows_of(corpus: Path, snapshot: Snapshot, task: str) -> list[dict]:
    """All rows of a task as plain Python, in snapshot order."""
    return [
        row
        for shard in snapshot.shards
        if shard.task == task
        for row in pa.ipc.open_file(str(corpus / shard.path)).read_all().to_pylist()
    ]


@pytest.mark.parametrize("task", ["understanding", "text", "generation"])
def test_rows_are_those_written(corpus: tuple[Path, Snapshot], task: str) -> None:
    folder, snapshot = corpus
    pool = Pool(task, pool_shards(folder, [shard for shard in snapshot.shards if shard.task == task]))
    expected = rows_of(folder, snapshot, task)
    assert len(pool) == len(expected)
    for number, want in enumerate(expected):
        row = pool.row(number)
        assert row.uid == want["uid"]
        assert row.input_ids.tolist() == want["input_ids"]
        assert row.loss_mask.tolist() == want["loss_mask"]
        assert (None if row.short_ids is None else row.short_ids.tolist()) == want["short_ids"]
        assert row.codes.tolist() == (want["codes"] or [])
        assert [bytes(image) for image in row.pixels] == (want["pixels"] or [])


def test_look_up_and_census(corpus: tuple[Path, Snapshot]) -> None:
    folder, snapshot = corpus
    pool = Pool("g", pool_shards(folder, [shard for shard in snapshot.shards if shard.task == "generation"]))
    expected = rows_of(folder, snapshot, "generation")
    wanted = np.array([169, 0, 99, 100, 5, 5, 101])
    found = pool.look_up(wanted)
    assert found.length.tolist() == [expected[number]["length"] for number in wanted]
    assert found.short_length.tolist() == [expected[number]["short_length"] for number in wanted]
    identities = [int.from_bytes(expected[number]["uid"][:8], "little") for number in wanted]
    assert found.identity.tolist() == identities
    assert pool.census().tolist() == list(range(170))


def test_rows_are_copied_out_of_the_map(corpus: tuple[Path, Snapshot]) -> None:
    folder, snapshot = corpus
    before = pa.total_allocated_bytes()
    shard = Shard(folder / snapshot.shards[0].path, snapshot.shards[0].rows)
    rows = [shard.row(number) for number in range(100)]
    assert sum(len(image) for row in rows for image in row.pixels) > 50_000
    # Nothing of it lives in Arrow's memory: the batches are mapped, and rows are NumPy's.
    assert pa.total_allocated_bytes() - before < 20_000
    assert rows[0].input_ids.flags.owndata
    assert all(image.flags.owndata for image in rows[0].pixels)


@pytest.mark.parametrize("batch_rows", [64, 1000])
def test_an_index_does_not_keep_its_file_mapped(tmp_path: Path, batch_rows: int) -> None:
    """Thousands are kept, and each mapping would hold a file descriptor."""
    path = tmp_path / "x.arrow"
    write_shard(path, [make_row(MadeSource("a", "text", 1), number) for number in range(100)], batch_rows=batch_rows)
    shard = Shard(path, 100)
    shard.row(70)
    assert str(path) in Path("/proc/self/maps").read_text()
    index = shard.index
    del shard
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert len(index.length) == len(index.identity) == 100


def test_pool_is_freed_without_the_cycle_collector(corpus: tuple[Path, Snapshot]) -> None:
    folder, snapshot = corpus
    pool = Pool("t", pool_shards(folder, [shard for shard in snapshot.shards if shard.task == "text"]))
    pool.look_up(np.arange(len(pool)))
    pool.row(0)
    gone = weakref.ref(pool)
    gc.disable()
    try:
        del pool
        assert gone() is None
    finally:
        gc.enable()


def broken(tmp_path: Path, rows: int = 150) -> tuple[Path, Snapshot, Path]:
    snapshot = make_corpus(tmp_path, [MadeSource("books", "text", rows)])
    return tmp_path, snapshot, tmp_path / snapshot.shards[1].path


def one_line(error: pytest.ExceptionInfo[Exception], path: Path) -> bool:
    return "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_missing_shard(tmp_path: Path) -> None:
    folder, snapshot, path = broken(tmp_path)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=f"snapshot {snapshot.name} is missing; restore it or build again"
    ) as error:
        check_files(folder, snapshot)
    assert one_line(error, path)


def test_shortened_shard(tmp_path: Path) -> None:
    folder, snapshot, path = broken(tmp_path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=rf"{snapshot.shards[1].bytes - 8} bytes where snapshot .* says") as error:
        check_files(folder, snapshot)
    assert one_line(error, path)


def test_file_that_is_not_arrow(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(b"hello" * 100)
    with pytest.raises(ValueError, match="not a readable Arrow file") as error:
        Shard(path, 5)
    assert one_line(error, path)


def test_wrong_number_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_shard(path, [make_row(MadeSource("a", "text", 1), 0)])
    with pytest.raises(ValueError, match="1 rows where the snapshot says 2"):
        Shard(path, 2)


def test_another_layer_or_version(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, DECISION):
        pass
    with pytest.raises(ValueError, match="expected layer train version 1, found decision version 1") as error:
        Shard(path, 0)
    assert one_line(error, path)


def test_offsets_that_lead_outside_are_refused(tmp_path: Path) -> None:
    """A damaged offset would otherwise make a view of foreign memory."""
    path = tmp_path / "x.arrow"
    rows = [make_row(MadeSource("a", "text", 1), number) for number in range(4)]
    write_shard(path, rows)
    ends = np.cumsum([0, *(len(row["input_ids"]) for row in rows)]).astype("<i4")
    data = path.read_bytes()
    assert data.count(ends.tobytes()) >= 1
    ends[-1] += 1_000_000
    path.write_bytes(data.replace(ends[:-1].tobytes() + (ends[-1] - 1_000_000).tobytes(), ends.tobytes()))
    with pytest.raises(ValueError, match="not a readable Arrow file") as error:
        Shard(path, 4).row(0)
    assert one_line(error, path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokenizer", "f" * 64),
        ("image_processor", "f" * 64),
        ("vq", "f" * 64),
        ("image_size", 384),
        ("understanding_tokens", 576),
        ("generation_tokens", 576),
        ("codebook_size", 16384),
    ],
)
def test_other_models_are_refused(corpus: tuple[Path, Snapshot], field: str, value: str | int) -> None:
    _, snapshot = corpus
    with pytest.raises(ValueError, match=f"built for another model: {field} is ") as error:
        check_fingerprints(snapshot, MADE_WITH.model_copy(update={field: value}))
    assert "\n" not in str(error.value)
    assert re.search("build the corpus with this model$", str(error.value))


def test_pixel_storage_does_not_matter_to_the_model(corpus: tuple[Path, Snapshot]) -> None:
    check_fingerprints(corpus[1], MADE_WITH.model_copy(update={"pixels": "raw"}))
