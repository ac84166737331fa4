"""A packed batch against the rows it was made of: nothing split, leaked, moved or mislabelled."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import torch

from janus.data.batch import assemble
from janus.data.config import DataConfig
from janus.data.loader import Loader
from janus.packed import TASK_IDS, PackedBatch
from schemas.digest import file_sha256
from schemas.manifest import Snapshot
from tests.data.make import MADE_WITH, TOKENS, MadeSource, make_corpus, make_row, write_shard

DATA = DataConfig(ratio=(2, 1, 2), sequences=6, seq_len=160, micro_batch=3, caption_drop=0.3)
SOURCES = [
    MadeSource("chats", "understanding", 60, images=2),
    MadeSource("captions", "generation", 60),
    MadeSource("books", "text", 60, words=(1, 40)),
]


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    folder = tmp_path_factory.mktemp("corpus")
    made_with = MADE_WITH.model_copy(update={"pixels": request.param})
    return folder, make_corpus(folder, SOURCES, made_with=made_with)


@pytest.fixture(scope="module")
def batches(corpus: tuple[Path, Snapshot]) -> list[PackedBatch]:
    loader = Loader(*corpus, data=DATA, tokens=TOKENS, steps=12)
    return [batch for step in loader for batch in step]


def rows_by_uid(corpus: tuple[Path, Snapshot]) -> dict[bytes, dict]:
    folder, snapshot = corpus
    tables = [pa.ipc.open_file(str(folder / shard.path)).read_all() for shard in snapshot.shards]
    return {row["uid"]: row for table in tables for row in table.to_pylist()}


def spans(batch: PackedBatch) -> Iterator[tuple[int, int, bytes | None, str | None]]:
    """Start, stop, uid and task of every document in flat order; None for padding tails."""
    documents = iter(zip(batch.uids, batch.tasks, strict=True))
    flat = batch.input_ids.flatten()
    start = 0
    for length in batch.lengths.tolist():
        padding = bool((flat[start : start + length] == TOKENS.pad).all())
        uid, task = (None, None) if padding else next(documents)
        yield start, start + length, uid, task
        start += length
    assert start == flat.numel()
    assert next(documents, None) is None


def test_documents_are_whole_and_never_cross_a_pack(corpus, batches: list[PackedBatch]) -> None:
    rows = rows_by_uid(corpus)
    dropped = short = full = 0
    for batch in batches:
        assert batch.input_ids.shape == (3, 160)
        for start, stop, uid, task in spans(batch):
            assert start // 160 == (stop - 1) // 160
            assert batch.position_ids.flatten()[start:stop].tolist() == list(range(stop - start))
            if uid is None:
                assert stop % 160 == 0
                continue
            row = rows[uid]
            ids = batch.input_ids.flatten()[start:stop].tolist()
            whole, brief = row["input_ids"], row["short_ids"] or row["input_ids"]
            if task != "generation":
                assert ids == whole
                continue
            if TOKENS.pad in ids:
                dropped += 1
                begin = ids.index(TOKENS.boi)
                assert set(ids[1:begin]) == {TOKENS.pad}
                assert ids[begin:] in (whole[whole.index(TOKENS.boi) :], brief[brief.index(TOKENS.boi) :])
                assert len(ids) in (len(whole), len(brief))
            else:
                full += ids == whole
                short += ids == brief != whole
                assert ids in (whole, brief)
    assert min(dropped, short, full) > 10


def test_labels_codes_and_pixels_are_those_of_the_rows(corpus, batches: list[PackedBatch]) -> None:
    """Rebuilt with plain loops from the row dictionaries."""
    rows = rows_by_uid(corpus)
    for batch in batches:
        text, codes, code_positions, pixel_positions, images = [], [], [], [], []
        for start, stop, uid, task in spans(batch):
            if uid is None:
                continue
            row = rows[uid]
            ids = batch.input_ids.flatten()[start:stop].tolist()
            marks = [start + place for place, token in enumerate(ids) if token == TOKENS.image]
            if task == "generation":
                codes += row["codes"]
                code_positions += marks
                continue
            pixel_positions += marks
            images += row["pixels"] or []
            for place, is_label in enumerate(row["loss_mask"]):
                if is_label:
                    text.append((start + place - 1, ids[place], TASK_IDS[task]))
        found = zip(
            batch.text_label_positions.tolist(),
            batch.text_labels.tolist(),
            batch.text_label_tasks.tolist(),
            strict=True,
        )
        assert list(found) == text
        assert batch.codes.flatten().tolist() == codes
        assert batch.codes.shape == (len(codes) // 9, 9)
        assert batch.code_positions.tolist() == code_positions
        assert batch.pixel_positions.tolist() == pixel_positions
        assert batch.pixels.shape == (len(images), 16, 16, 3)
        assert batch.pixels.dtype == torch.uint8
        for pixels, stored in zip(batch.pixels.numpy(), images, strict=True):
            raw = len(stored) == 16 * 16 * 3
            expected = np.frombuffer(stored, np.uint8).reshape(16, 16, 3) if raw else simplejpeg.decode_jpeg(stored)
            assert (pixels == expected).all()


def test_position_before_the_first_code_is_begin_of_image(batches: list[PackedBatch]) -> None:
    for batch in batches:
        first = batch.code_positions.view(-1, 9)[:, 0]
        assert (batch.input_ids.flatten()[first - 1] == TOKENS.boi).all()


def test_lengths_and_counts_add_up(batches: list[PackedBatch]) -> None:
    for batch in batches:
        assert batch.lengths.sum() == batch.input_ids.numel()
        assert batch.lengths.dtype == torch.int32
        assert batch.label_counts().sum() == batch.text_labels.numel() + batch.codes.numel()


def test_pack_without_documents_is_one_document_of_padding() -> None:
    with ThreadPoolExecutor(1) as decoders:
        batch = assemble([[], []], 32, TOKENS, MADE_WITH, decoders)
    assert batch.lengths.tolist() == [32, 32]
    assert (batch.input_ids == TOKENS.pad).all()
    assert batch.position_ids.tolist() == [list(range(32))] * 2
    assert batch.pixels.shape == (0, 16, 16, 3)
    assert batch.codes.shape == (0, 9)
    assert batch.label_counts().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"", "image 0: "),
        (b"\xff\xd8\xff\xe0 no picture", "image 0: "),
        (simplejpeg.encode_jpeg(np.zeros((8, 16, 3), np.uint8)), "image 0: 16x8 pixels, expected 16x16"),
        ("cut", "image 0: "),
    ],
)
def test_damaged_picture_names_file_row_and_uid(tmp_path: Path, image: bytes | str, problem: str) -> None:
    source = MadeSource("chats", "understanding", 1)
    snapshot = make_corpus(tmp_path, [source])
    row = make_row(source, 0)
    row["pixels"] = [row["pixels"][0][:-40] if isinstance(image, str) else image]
    path = tmp_path / snapshot.shards[0].path
    write_shard(path, [row])
    changed = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    shard = snapshot.shards[0].model_copy(update=changed)
    loader = Loader(
        tmp_path,
        snapshot.model_copy(update={"shards": (shard,)}),
        data=DataConfig(ratio=(1, 0, 0), sequences=1, seq_len=64, micro_batch=1),
        tokens=TOKENS,
        steps=1,
    )
    with pytest.raises(ValueError, match=problem) as error:
        next(iter(loader))
    assert str(error.value).startswith(f"{path}: row 0 (uid {row['uid'].hex()}): damaged row: image 0: ")
    assert "\n" not in str(error.value)


def test_documents_keep_their_uids_and_tasks(corpus, batches: list[PackedBatch]) -> None:
    rows = rows_by_uid(corpus)
    for batch in batches:
        for uid, task in zip(batch.uids, batch.tasks, strict=True):
            kind = "generation" if rows[uid]["codes"] else "understanding" if rows[uid]["pixels"] else "text"
            assert task == kind
