"""Shard files: whole or absent, the same bytes however they were written, never believed unread."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.shardio import BATCH_ROWS, ShardError, ShardWriter, open_shard, write_table
from schemas.digest import file_sha256
from schemas.layers import DECISION, RAW, TRAIN
from schemas.manifest import ShardManifest


def row(number: int) -> dict[str, object]:
    return {
        "uid": number.to_bytes(16, "big"),
        "input_ids": list(range(number % 7)),
        "loss_mask": [True] * (number % 7),
        "short_ids": None,
        "codes": [number] * 4 if number % 2 else None,
        "pixels": None if number % 2 else [bytes([number % 256]) * 50],
        "length": number % 7,
        "short_length": number % 7,
    }


def manifest_of(path: Path, rows: int) -> ShardManifest:
    return ShardManifest(
        layer="train", source="s", task="text", shard="0" * 16, key="k", rows=rows, bytes=path.stat().st_size,
        sha256=file_sha256(path), inputs={}, config="",
    )  # fmt: skip


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, ShardManifest]:
    path = tmp_path / "train/s/shard.arrow"
    with ShardWriter(path.parent, path.name, TRAIN) as writer:
        for number in range(200):
            writer.write(row(number))
    return path, manifest_of(path, 200)


def test_what_was_written_is_read_back(shard: tuple[Path, ShardManifest], tmp_path: Path) -> None:
    reader = open_shard(tmp_path, "train/s/shard.arrow", shard[1])
    assert reader.table().to_pylist() == [row(number) for number in range(200)]
    sizes = [batch.num_rows for batch in reader.batches()]
    assert sizes == [64, 64, 64, 8], "small record batches, so that a shuffled read maps little"


def test_writer_reports_the_file_it_made(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with ShardWriter(path.parent, path.name, TRAIN) as writer:
        writer.write(row(3))
    assert writer.written is not None
    assert (writer.written.rows, writer.written.bytes) == (1, path.stat().st_size)
    assert writer.written.sha256 == file_sha256(path)


@pytest.mark.parametrize("rows", [0, 1, BATCH_ROWS["train"]])
def test_bytes_depend_on_the_rows_alone(tmp_path: Path, rows: int) -> None:
    one, other = tmp_path / "one.arrow", tmp_path / "other.arrow"
    with ShardWriter(one.parent, one.name, TRAIN) as writer:
        for number in range(rows):
            writer.write(row(number))
    pieces = [pa.Table.from_pylist([row(n)], schema=TRAIN) for n in range(rows)]
    write_table(other.parent, other.name, TRAIN, pa.concat_tables([TRAIN.empty_table(), *pieces]))
    assert one.read_bytes() == other.read_bytes()


def test_large_images_make_small_batches(tmp_path: Path) -> None:
    image = {"outcome": "ok", "sha256": None, "url": None, "final_url": None, "http_status": None}
    large = dict.fromkeys(RAW.names) | {"uid": bytes(16), "key": "k", "messages": [], "outcome": "ok"}
    with ShardWriter(tmp_path, "raw.arrow", RAW) as writer:
        for size in [10 << 20] * 10 + [1] * 70 + [100 << 20, 1]:
            writer.write(large | {"images": [image | {"bytes": bytes(size)}]})
    with pa.ipc.open_file(tmp_path / "raw.arrow") as file:
        assert [file.get_batch(n).num_rows for n in range(file.num_record_batches)] == [7, 64, 10, 1]


def test_shards_open_in_datasets_directly(shard: tuple[Path, ShardManifest], tmp_path: Path) -> None:
    import datasets

    data = datasets.load_dataset("arrow", data_files=str(shard[0]), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.num_rows == 200
    assert data[65]["codes"] == [65] * 4


def fill_and_fail(writer: ShardWriter) -> None:
    for number in range(100):
        writer.write(row(number))
    raise KeyError("half-way")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    with pytest.raises(KeyError), ShardWriter(path.parent, path.name, TRAIN) as writer:
        fill_and_fail(writer)
    assert list(tmp_path.iterdir()) == []


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "says"),
    [(damage_flip, "flipped bit"), (damage_cut, "truncated"), (Path.unlink, "missing")],
    ids=["flip", "cut", "missing"],
)
def test_damage_is_one_line_with_the_file_and_the_remedy(
    shard: tuple[Path, ShardManifest], tmp_path: Path, damage: object, says: str
) -> None:
    damage(shard[0])  # type: ignore[operator]
    with pytest.raises(ShardError, match=says) as error:
        open_shard(tmp_path, "train/s/shard.arrow", shard[1])
    message = str(error.value)
    assert "train/s/shard.arrow" in message
    assert "build again" in message
    assert "\n" not in message


def test_whatever_arrow_says_of_a_footer_is_one_line(shard: tuple[Path, ShardManifest], tmp_path: Path) -> None:
    """Files that somebody made with a manifest that fits: every byte of the footer changed in turn."""
    path, _ = shard
    whole = path.read_bytes()
    complaints = []
    for place in range(len(whole) - 400, len(whole)):
        for change in (0xFF, 0x10):
            path.write_bytes(bytes([*whole[:place], whole[place] ^ change, *whole[place + 1 :]]))
            try:
                open_shard(tmp_path, "train/s/shard.arrow", manifest_of(path, 200))
            except ShardError as error:
                complaints.append(str(error))
    assert len(complaints) > 20
    assert all(text.startswith("train/s/shard.arrow: ") and "\n" not in text for text in complaints)


def test_another_layer_or_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train/s/shard.arrow"
    write_table(path.parent, path.name, DECISION, DECISION.empty_table())
    with pytest.raises(ShardError, match="expected layer train version 1, found decision version 1"):
        open_shard(tmp_path, "train/s/shard.arrow", manifest_of(path, 0))
