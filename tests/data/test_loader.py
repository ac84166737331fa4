"""The loader: one global order for any number of ranks, micro-batches and restarts (order compared, not sets)."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from janus.data.config import DataConfig
from janus.data.loader import Loader, order_digest
from janus.packed import PackedBatch
from schemas.manifest import Snapshot
from tests.data.make import TOKENS, MadeSource, make_corpus

DATA = DataConfig(
    ratio=(7, 3, 10), sequences=16, seq_len=128, micro_batch=2, seed=5, first_group="imagenet", first_share=0.5
)
STEPS = 10
Pack = tuple[tuple[bytes, ...], tuple[int, ...]]
"""Uids and token ids of one packed sequence: the ids show caption drops and short captions too."""


@pytest.fixture(scope="module", autouse=True)
def small_windows() -> Iterator[None]:
    """Windows of three steps: these tests make a hundred loaders, and resume inside and between windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("janus.data.plan.WINDOW_SLOTS", 200)
        patch.setattr("janus.data.plan.PROBE_SLOTS", 512)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    folder = tmp_path_factory.mktemp("corpus")
    sources = [
        MadeSource("chats", "understanding", 220),
        MadeSource("pages", "understanding", 120, images=3),
        MadeSource("books", "text", 150, words=(1, 60)),
        MadeSource("imagenet", "generation", 90, words=(1, 2), group="imagenet"),
        MadeSource("captions", "generation", 400),
    ]
    return folder, make_corpus(folder, sources)


def packs_of(batch: PackedBatch) -> list[Pack]:
    """The packs of a batch with their uids."""
    found, uids = [], iter(batch.uids)
    lengths = iter(batch.lengths.tolist())
    for ids in batch.input_ids.tolist():
        place, names = 0, []
        while place < len(ids):
            if ids[place] == TOKENS.bos:
                names.append(next(uids))
            place += next(lengths)
        found.append((tuple(names), tuple(ids)))
    return found


def global_batches(
    corpus: tuple[Path, Snapshot], data: DataConfig = DATA, *, world_size: int = 1, start: int = 0, stop: int = STEPS
) -> list[list[Pack]]:
    """Every step's packs in global order, put together from all ranks: pack i is on rank i mod world_size."""
    ranks = [
        iter(
            Loader(
                *corpus,
                data=data,
                tokens=TOKENS,
                steps=STEPS,
                rank=rank,
                world_size=world_size,
                start_step=start,
            )
        )
        for rank in range(world_size)
    ]
    steps = []
    for _ in range(start, stop):
        dealt = [[pack for batch in next(rank) for pack in packs_of(batch)] for rank in ranks]
        assert len({len(packs) for packs in dealt}) == 1
        order = [pack for row in zip(*dealt, strict=True) for pack in row]
        while order and not order[-1][0]:
            order.pop()
        steps.append(order)
    for rank in ranks:
        rank.close()  # type: ignore[attr-defined]
    return steps


@pytest.fixture(scope="module")
def reference(corpus: tuple[Path, Snapshot]) -> list[list[Pack]]:
    return global_batches(corpus)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_same_order_on_any_number_of_ranks(corpus, reference, world_size: int) -> None:
    assert global_batches(corpus, world_size=world_size) == reference


@pytest.mark.parametrize("micro_batch", [1, 3, 8, 16])
def test_same_order_with_any_micro_batch(corpus, reference, micro_batch: int) -> None:
    data = dataclasses.replace(DATA, micro_batch=micro_batch)
    assert global_batches(corpus, data) == reference
    assert global_batches(corpus, data, world_size=2, stop=2) == reference[:2]


@pytest.mark.parametrize("saved_on", [1, 2, 4])
@pytest.mark.parametrize("resumed_on", [1, 2, 4])
def test_resume_on_another_number_of_ranks_goes_on_where_it_was(
    corpus, reference, saved_on: int, resumed_on: int
) -> None:
    before = global_batches(corpus, world_size=saved_on, stop=4)
    after = global_batches(corpus, world_size=resumed_on, start=4)
    assert before + after == reference


def test_threads_and_prefetch_change_nothing(corpus, reference) -> None:
    data = dataclasses.replace(DATA, decode_threads=1, prefetch=5)
    assert global_batches(corpus, data) == reference


def test_all_ranks_have_equal_shapes_even_without_documents(corpus) -> None:
    data = dataclasses.replace(DATA, sequences=3)
    for rank in range(8):
        for step in Loader(*corpus, data=data, tokens=TOKENS, steps=2, rank=rank, world_size=8):
            assert [batch.input_ids.shape for batch in step] == [(2, 128)]


def test_generation_is_imagenet_first_then_all_else(corpus) -> None:
    folder, snapshot = corpus
    imagenet = {uid for shard in snapshot.shards if shard.group == "imagenet" for uid in _uids(folder / shard.path)}
    for number, step in enumerate(Loader(*corpus, data=DATA, tokens=TOKENS, steps=STEPS)):
        drawn = [
            uid for batch in step for uid, task in zip(batch.uids, batch.tasks, strict=True) if task == "generation"
        ]
        assert drawn
        assert all((uid in imagenet) == (number < STEPS // 2) for uid in drawn)


def _uids(path: Path) -> list[bytes]:
    import pyarrow as pa

    return pa.ipc.open_file(str(path)).read_all().column("uid").to_pylist()


def test_caption_drop_and_short_caption_have_their_rates(tmp_path: Path) -> None:
    """On real batches: 8,000 captions, all with a shorter version."""
    made = make_corpus(tmp_path, [MadeSource("captions", "generation", 800, words=(10, 20))])
    data = DataConfig(ratio=(0, 0, 1), sequences=8, seq_len=512, micro_batch=8, caption_drop=0.1, short_caption=0.25)
    drops = shorts = total = 0
    for step in Loader(tmp_path, made, data=data, tokens=TOKENS, steps=50):
        for batch in step:
            for ids in (
                part for part in batch.input_ids.flatten().split(batch.lengths.tolist()) if part[0] == TOKENS.bos
            ):
                begin = int((ids == TOKENS.boi).nonzero()[0])
                total += 1
                drops += int(ids[1] == TOKENS.pad)
                shorts += begin == 5
    assert total > 5000
    assert abs(drops / total - 0.10) < 5 * (0.10 * 0.90 / total) ** 0.5
    assert abs(shorts / total - 0.25) < 5 * (0.25 * 0.75 / total) ** 0.5


def test_leaving_early_stops_the_threads(corpus) -> None:
    steps = iter(Loader(*corpus, data=DATA, tokens=TOKENS, steps=1000))
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "batch"))]


def test_order_digest_names_the_order_and_nothing_else(corpus) -> None:
    _, snapshot = corpus
    base = order_digest(DATA, snapshot, STEPS)
    for same in ({"micro_batch": 7}, {"decode_threads": 9}, {"prefetch": 9}, {"verify": True}):
        assert order_digest(dataclasses.replace(DATA, **same), snapshot, STEPS) == base
    for other in ({"seed": 1}, {"ratio": (1, 1, 1)}, {"sequences": 8}, {"seq_len": 64}, {"caption_drop": 0.2}):
        assert order_digest(dataclasses.replace(DATA, **other), snapshot, STEPS) != base
    assert order_digest(DATA, snapshot, 2 * STEPS) != base  # the switch moves
    plain = dataclasses.replace(DATA, first_group="")
    assert order_digest(plain, snapshot, STEPS) == order_digest(plain, snapshot, 2 * STEPS)
    assert order_digest(DATA, snapshot.model_copy(update={"number": 2}), STEPS) != base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_group": "laion"}, "trains on generation of group 'laion', but snapshot"),
        ({"seq_len": 32}, "tokens, data.seq_len is 32; raise it"),
    ],
)
def test_what_the_snapshot_cannot_serve_is_refused(corpus, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Loader(*corpus, data=dataclasses.replace(DATA, **change), tokens=TOKENS, steps=STEPS)
    assert "\n" not in str(error.value)


def test_task_without_rows_is_refused(tmp_path: Path) -> None:
    snapshot = make_corpus(tmp_path, [MadeSource("books", "text", 5)])
    with pytest.raises(
        ValueError, match=r"trains on understanding, but snapshot .* has no such rows; change data.ratio"
    ):
        Loader(tmp_path, snapshot, data=DataConfig(ratio=(1, 1, 0)), tokens=TOKENS, steps=1)


def test_missing_shard_is_refused_before_the_first_step(tmp_path: Path) -> None:
    snapshot = make_corpus(tmp_path, [MadeSource("books", "text", 250)])
    (tmp_path / snapshot.shards[2].path).unlink()
    with pytest.raises(FileNotFoundError, match="is missing; restore it or build again"):
        Loader(tmp_path, snapshot, data=DataConfig(ratio=(0, 1, 0)), tokens=TOKENS, steps=1)


@pytest.mark.gpu
def test_pinned_batches(corpus) -> None:
    step = next(iter(Loader(*corpus, data=DATA, tokens=TOKENS, steps=1, pin_memory=True)))
    assert all(batch.input_ids.is_pinned() and batch.pixels.is_pinned() for batch in step)
    assert torch.equal(step[0].to("cuda", non_blocking=True).input_ids.cpu(), step[0].input_ids)
