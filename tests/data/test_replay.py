"""Replay and held-out rows: exact shares, whole epochs, a closed form, no row held out that trains."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from janus.data.config import DataConfig
from janus.data.epochs import steps_for
from janus.data.hold_out import is_held_out
from janus.data.loader import Loader, order_digest
from janus.data.mixture import phases, plan_of, source_uses
from janus.data.replay import Replay, load_replay
from janus.data.shards import Pool
from schemas.manifest import Snapshot
from tests.data.make import TOKENS, MadeSource, make_corpus

OWN = (MadeSource("mine", "understanding", 60), MadeSource("pictures", "generation", 20))
OLD = (
    MadeSource("photos", "understanding", 90),
    MadeSource("texts", "text", 30),
    MadeSource("drawings", "generation", 50),
    MadeSource("classes", "generation", 100),
)
PLAIN = DataConfig(ratio=(1, 1, 1), ratio_unit="rows", sequences=8, seq_len=64, seed=5, decode_threads=1)
TASK_OF = {"mine": "understanding", "pictures": "generation"}
Made = tuple[Path, Snapshot, Replay]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run's own corpus, and one to replay."""
    folder = tmp_path_factory.mktemp("replay")
    own = make_corpus(folder / "own", OWN, shard_rows=16)
    make_corpus(folder / "old", OLD, shard_rows=16)
    replay = load_replay(dataclasses.replace(PLAIN, replay=str(folder / "old")), own)
    assert replay is not None
    return folder / "own", own, replay


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janus.data.plan.WINDOW_SLOTS", 256)


def with_replay(made: Made, **changes: object) -> DataConfig:
    changes = {"replay": str(made[2].corpus.folder), **changes}  # type: ignore[union-attr]
    return dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]


def documents(made: Made, config: DataConfig, steps: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Source and uid of every document of some steps, in order."""
    folder, snapshot, replay = made
    planned = phases(folder, snapshot, config, steps, replay=replay if config.replay else None)
    pools = {pool.name: pool for phase in planned for pool in phase.pools.values()}
    plan = plan_of(planned, config)
    draws = [draw for step in range(first, steps) for pack in plan.step(step) for draw in pack]
    return [(pools[draw.pool].source_of(np.array([draw.row]))[0], pools[draw.pool].row(draw.row).uid) for draw in draws]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.037])
def test_the_replayed_share_and_its_tasks_are_as_asked(made: Made, share: float) -> None:
    found = documents(made, with_replay(made, replay_share=share, replay_ratio=(2, 3, 5)), 200)
    by_source = Counter(source for source, _ in found)
    old = {source: count for source, count in by_source.items() if source.endswith("(replay)")}
    # Slots are whole, and what a window leaves open is a few documents.
    assert sum(old.values()) / len(found) == pytest.approx(share, abs=0.003)
    generation = old["drawings (replay)"] + old["classes (replay)"]
    assert old["texts (replay)"] / sum(old.values()) == pytest.approx(0.3, abs=0.02)
    assert generation / sum(old.values()) == pytest.approx(0.5, abs=0.02)
    assert old["classes (replay)"] / generation == pytest.approx(2 / 3, abs=0.02)  # there by rows
    assert by_source["mine"] / by_source["pictures"] == pytest.approx(3.0, rel=0.02)  # own rows equally often


def test_own_and_replayed_rows_each_come_once_per_epoch(made: Made) -> None:
    counts: dict[str, Counter[bytes]] = {}
    for source, uid in documents(made, with_replay(made), 60):
        counts.setdefault(source, Counter())[uid] += 1
    for source in (*OWN, *OLD):
        name = source.name if source in OWN else f"{source.name} (replay)"
        seen = counts[name]
        most, least = max(seen.values()), min(seen.values()) if len(seen) == source.rows else 0
        assert most - least <= 1, name


def test_any_step_is_looked_up_as_it_comes(made: Made) -> None:
    config = with_replay(made)
    assert documents(made, config, 12)[-len(documents(made, config, 12, first=7)) :] == documents(
        made, config, 12, first=7
    )


def test_world_sizes_and_resume_keep_the_order(made: Made) -> None:
    folder, snapshot, replay = made
    config = dataclasses.replace(with_replay(made, hold_out=0.1), micro_batch=1)

    def uids(size: int, start: int = 0) -> list[list[bytes]]:
        ranks = [
            Loader(
                folder, snapshot, data=config, tokens=TOKENS, steps=5, rank=rank, world_size=size, start_step=start,
                replay=replay,
            )
            for rank in range(size)
        ]  # fmt: skip
        steps = zip(*ranks, strict=True)
        return [sorted(uid for batches in step for batch in batches for uid in batch.uids) for step in steps]

    whole = uids(1)
    assert uids(2) == uids(4) == whole
    assert uids(2, start=3) == whole[3:]


def test_without_replay_the_order_is_what_it_was(made: Made) -> None:
    """A plain pool and the digest of before, whatever the fields of replay say."""
    folder, snapshot, _ = made
    plain = dataclasses.replace(PLAIN, ratio=(1, 0, 1), ratio_unit="samples")
    other = dataclasses.replace(plain, replay_share=0.7, replay_ratio=(1, 1, 1), replay_snapshot="0001-aaaaaaaa")
    assert documents(made, plain, 8) == documents(made, other, 8)
    (phase,) = phases(folder, snapshot, plain, 8)
    assert {type(pool) for pool in phase.pools.values()} == {Pool}
    names = {"hold_out", "replay", "replay_share", "replay_ratio", "replay_snapshot"}
    assert not names & plain.order().keys()
    assert order_digest(plain, snapshot, 8) == order_digest(other, snapshot, 8)


def test_the_digest_names_the_replay(made: Made) -> None:
    _, snapshot, replay = made
    config = with_replay(made)
    newer = replay.snapshot.model_copy(update={"number": 2})
    digests = {
        order_digest(config, snapshot, 8, replay.snapshot),
        order_digest(config, snapshot, 8, newer),
        order_digest(with_replay(made, replay_share=0.3), snapshot, 8, replay.snapshot),
        order_digest(PLAIN, snapshot, 8),
        order_digest(dataclasses.replace(PLAIN, hold_out=0.1), snapshot, 8),
    }
    assert len(digests) == 5
    moved = with_replay(made, replay="elsewhere")
    assert order_digest(moved, snapshot, 8, newer) == order_digest(config, snapshot, 8, newer)


@pytest.mark.parametrize("shuffle", ["row", "block"])
def test_held_out_rows_never_train(made: Made, shuffle: str) -> None:
    """Over more than an epoch: what trains and what is held out are all rows, and none is both."""
    folder, snapshot, replay = made
    changes = {"hold_out": 0.2, "shuffle": shuffle, "block_shards": 2}
    config = with_replay(made, **changes)
    trained = {source: set[bytes]() for source in TASK_OF}
    for source, uid in documents(made, config, 60):
        trained.setdefault(source, set()).add(uid)
    alone = dataclasses.replace(config, replay="", ratio_unit="rows")
    held: dict[str, set[bytes]] = {}
    for phase in phases(folder, snapshot, alone, 1, held_out=True):
        for pool in phase.pools.values():
            for number in range(len(pool)):
                held.setdefault(pool.source_of(np.array([number]))[0], set()).add(pool.row(number).uid)
    for source in OWN:
        assert held[source.name]
        assert not held[source.name] & trained[source.name]
        assert len(held[source.name] | trained[source.name]) == source.rows
    # Replayed rows are under the same rule: the same row may be in both corpora.
    for name in ("photos (replay)", "drawings (replay)"):
        identities = np.array([int.from_bytes(uid[:8], "little") for uid in trained[name]], np.uint64)
        assert not is_held_out(identities, 0.2).any()
    assert replay.snapshot.shards


def test_what_is_held_out_follows_from_uid_and_share_alone() -> None:
    identity = np.random.default_rng(0).integers(0, 2**63, 100_000).astype(np.uint64)
    few, more = is_held_out(identity, 0.02), is_held_out(identity, 0.1)
    assert few.mean() == pytest.approx(0.02, abs=0.002)
    assert more.mean() == pytest.approx(0.1, abs=0.004)
    assert not (few & ~more).any()
    # Written down: another function would hold out other rows of every corpus that is in use.
    assert np.flatnonzero(is_held_out(np.arange(1, 200, dtype=np.uint64), 0.05)).tolist() == HELD_OUT


HELD_OUT = [34, 59, 108, 152, 164, 166, 183, 184]


@pytest.mark.parametrize("epochs", [0.5, 1, 3])
def test_steps_follow_from_epochs(made: Made, epochs: float) -> None:
    folder, snapshot, replay = made
    config = with_replay(made, hold_out=0.1)
    steps = steps_for(folder, snapshot, config, epochs, replay=replay)
    for some, enough in ((steps, True), (steps - 1, False)):
        if not some:
            continue
        planned = phases(folder, snapshot, config, some, replay=replay)
        uses = source_uses(planned, plan_of(planned, config), config, some)
        own = [use for use in uses if not use.source.endswith("(replay)")]
        rows, samples = sum(use.rows for use in own), sum(use.samples for use in own)
        assert (samples >= epochs * rows - 0.01) == enough
        assert {use.source for use in own} == {"mine", "pictures"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio_unit": "tokens"}, "data.replay_share is of samples: it needs data.ratio_unit samples or rows"),
        ({"replay_share": 1.0}, "data.replay_share 1.0: expected a share above 0 and below 1"),
        ({"hold_out": 1.0}, r"data.hold_out 1.0: expected a share in \[0, 1\)"),
        ({"replay_ratio": (0, 0, 0)}, "data.replay_ratio"),
    ],
)
def test_what_cannot_be_is_refused(made: Made, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_replay(made, **changes)


def test_a_replay_corpus_that_does_not_go_with_the_run_is_refused(made: Made, tmp_path: Path) -> None:
    folder, snapshot, _ = made
    with pytest.raises(ValueError, match="this is the snapshot of --data; name another corpus"):
        load_replay(dataclasses.replace(PLAIN, replay=str(folder)), snapshot)
    with pytest.raises(FileNotFoundError, match=r"--data.replay .*none"):
        load_replay(dataclasses.replace(PLAIN, replay=str(tmp_path / "none")), snapshot)
    make_corpus(tmp_path / "texts", [MadeSource("texts", "text", 5)])
    config = dataclasses.replace(PLAIN, replay=str(tmp_path / "texts"), replay_ratio=(1, 0, 1))
    replay = load_replay(config, snapshot)
    with pytest.raises(ValueError, match=r"it has no rows of the tasks of data\.replay_ratio"):
        phases(folder, snapshot, config, 5, replay=replay)
