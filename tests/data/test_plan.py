"""The plan: closed form, exact ratio, whole epochs, constant cost at any step."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest

from janus.data.config import DataConfig
from janus.data.plan import Draw, Phase, Plan
from schemas.digest import digest
from schemas.sample import TASKS
from tests.data.synthetic import Counted

CONFIG = DataConfig(ratio=(7, 3, 10), sequences=64, seq_len=1024, seed=3)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 2,048 documents, for tests that walk through several."""
    monkeypatch.setattr("janus.data.plan.WINDOW_SLOTS", 2048)


def tables(understanding: int = 70_000, text: int = 20_000, generation: int = 50_000) -> dict:
    return {
        "understanding": Counted("understanding", understanding, 150, 400),
        "text": Counted("text", text, 10, 1000),
        "generation": Counted("generation", generation, 120, 260),
    }


def plan_of(config: DataConfig = CONFIG, **rows: int) -> Plan:
    return Plan([Phase(0, None, tables(**rows))], config)


def documents(plan: Plan, steps: range) -> Iterator[Draw]:
    for step in steps:
        yield from chain.from_iterable(plan.step(step))


def window_steps(plan: Plan) -> int:
    return plan.forecasts[0].window_steps


@pytest.mark.usefixtures("small_windows")
def test_a_step_does_not_depend_on_the_steps_before_it() -> None:
    walked, jumped = plan_of(), plan_of()
    steps = window_steps(walked)
    wanted = [steps + 5, 0, 2 * steps - 1, steps, 7]
    in_order = {step: walked.step(step) for step in range(2 * steps + 1)}
    for step in wanted:
        assert jumped.step(step) == in_order[step]


def test_fill_and_packs_per_step() -> None:
    plan = plan_of()
    steps = window_steps(plan)
    packs = [plan.step(step) for step in range(steps)]
    assert all(len(step) <= CONFIG.sequences for step in packs)
    assert all(sum(draw.length for draw in pack) <= CONFIG.seq_len for step in packs for pack in step)
    tokens = sum(draw.length for step in packs for pack in step for draw in pack)
    assert tokens / (steps * CONFIG.sequences * CONFIG.seq_len) >= 0.98


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("ratio", [(7, 3, 10), (2, 3, 5), (1, 0, 1)])
def test_documents_in_windows_have_the_exact_ratio(ratio: tuple[int, int, int]) -> None:
    """Windows cut the stream between slots: at a window's end all whole cycles are exact, the last one is begun."""
    pools = {task: rows for task, rows in tables().items() if ratio[TASKS.index(task)]}
    plan = Plan([Phase(0, None, pools)], dataclasses.replace(CONFIG, ratio=ratio))
    steps = window_steps(plan)
    counts: Counter[str] = Counter()
    for window in range(2):
        counts.update(draw.task for draw in documents(plan, range(window * steps, (window + 1) * steps)))
        total = sum(counts.values())
        for task, part in zip(TASKS, ratio, strict=True):
            cycles = total // sum(ratio)
            assert cycles * part <= counts[task] <= (cycles + 1) * part


@pytest.mark.usefixtures("small_windows")
def test_steps_have_the_ratio_up_to_the_look_ahead() -> None:
    plan = plan_of()
    for step in range(window_steps(plan)):
        counts = Counter(draw.task for draw in documents(plan, range(step, step + 1)))
        total = sum(counts.values())
        for task, part in zip(TASKS, CONFIG.ratio, strict=True):
            assert abs(counts[task] - total * part / 20) < 40


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("shuffle", ["row", "block"])
def test_every_row_comes_exactly_once_per_epoch(shuffle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "SHARD_ROWS", 16)
    config = dataclasses.replace(CONFIG, shuffle=shuffle, block_shards=4)
    plan = plan_of(config, understanding=701, text=101, generation=503)
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    for draw in documents(plan, range(3 * window_steps(plan))):
        seen[draw.pool, draw.epoch].append(draw.row)
    for pool, rows in (("understanding", 701), ("text", 101), ("generation", 503)):
        epochs = max(epoch for name, epoch in seen if name == pool)
        assert epochs >= 2
        for epoch in range(epochs):
            assert sorted(seen[pool, epoch]) == list(range(rows))
        assert len(set(seen[pool, epochs])) == len(seen[pool, epochs])


def test_a_window_of_blocks_touches_few_shards() -> None:
    plan = plan_of(dataclasses.replace(CONFIG, shuffle="block", block_shards=8), understanding=10**7, generation=10**7)
    touched: dict[str, set[int]] = defaultdict(set)
    for draw in documents(plan, range(window_steps(plan))):
        touched[draw.pool].add(draw.row // Counted.SHARD_ROWS)
    assert {pool: len(shards) <= 16 for pool, shards in touched.items()} == dict.fromkeys(touched, True)


def test_settings_of_an_unused_shuffle_are_no_part_of_a_run() -> None:
    assert CONFIG.order() == dataclasses.replace(CONFIG, block_shards=7).order()
    assert "shuffle" not in CONFIG.order(), "runs begun before there was a choice go on"
    block = dataclasses.replace(CONFIG, shuffle="block")
    assert block.order() != dataclasses.replace(block, block_shards=7).order()


def test_token_ratio_is_near_and_built_from_whole_sample_counts() -> None:
    plan = plan_of(dataclasses.replace(CONFIG, ratio_unit="tokens"))
    tokens: Counter[str] = Counter()
    for draw in documents(plan, range(window_steps(plan))):
        tokens[draw.task] += draw.length
    total = sum(tokens.values())
    for task, part in zip(TASKS, CONFIG.ratio, strict=True):
        assert tokens[task] / total == pytest.approx(part / 20, rel=0.02)


def test_augmentation_has_its_rates_in_generation_only() -> None:
    plan = plan_of()
    draws = list(documents(plan, range(window_steps(plan))))
    generation = [draw for draw in draws if draw.task == "generation"]
    assert len(generation) > 15_000
    short, drop = (np.array([getattr(draw, name) for draw in generation]) for name in ("short", "drop"))
    # Five standard deviations of a binomial.
    assert abs(short.mean() - 0.25) < 5 * (0.25 * 0.75 / len(short)) ** 0.5
    assert abs(drop.mean() - 0.10) < 5 * (0.10 * 0.90 / len(drop)) ** 0.5
    assert abs((short & drop).mean() - 0.025) < 5 * (0.025 * 0.975 / len(drop)) ** 0.5
    assert not any(draw.short or draw.drop for draw in draws if draw.task != "generation")


def test_augmentation_belongs_to_row_and_epoch_not_to_place() -> None:
    """Another ratio, batch and step: the same rows have the same augmentation; the next epoch has others."""
    first = plan_of(generation=5000)
    other = plan_of(dataclasses.replace(CONFIG, ratio=(1, 1, 4), sequences=16), generation=5000)
    augmentation = [
        {
            (draw.row, draw.epoch): (draw.short, draw.drop)
            for draw in documents(plan, range(window_steps(plan)))
            if draw.task == "generation"
        }
        for plan in (first, other)
    ]
    shared = augmentation[0].keys() & augmentation[1].keys()
    assert len(shared) > 15_000
    assert all(augmentation[0][key] == augmentation[1][key] for key in shared)
    changed = sum(augmentation[0][row, 0] != augmentation[0][row, 1] for row in range(5000))
    # P(differ) = 1 - (.25² + .75²)(.1² + .9²) = .4875
    assert abs(changed / 5000 - 0.4875) < 0.04


def test_other_seed_is_another_order() -> None:
    first, second = (plan_of(dataclasses.replace(CONFIG, seed=seed)).step(0) for seed in (0, 1))
    assert {d.row for d in chain.from_iterable(first)} != {d.row for d in chain.from_iterable(second)}


def phased(switch: int, config: DataConfig = CONFIG, **rows: int) -> Plan:
    pools = tables(**rows)
    first = {**pools, "generation": Counted("imagenet", 3000, 120, 140)}
    return Plan([Phase(0, switch, first), Phase(switch, None, pools)], config)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("switch", [1, 7, 40])
def test_groups_switch_at_the_step_and_other_streams_go_on(switch: int) -> None:
    plan = phased(switch, understanding=3000, text=1000)
    before = [draw for draw in documents(plan, range(switch))]
    after = [draw for draw in documents(plan, range(switch, switch + 3 * window_steps(plan)))]
    assert {draw.pool for draw in before if draw.task == "generation"} == {"imagenet"}
    assert {draw.pool for draw in after if draw.task == "generation"} == {"generation"}
    for pool, rows in (("understanding", 3000), ("text", 1000)):
        taken = [(draw.epoch, draw.row) for draw in before + after if draw.pool == pool]
        assert len(set(taken)) == len(taken)  # nothing is repeated over the switch ...
        whole = [row for epoch, row in taken if epoch == 0]
        if max(epoch for epoch, _ in taken) > 0:
            assert sorted(whole) == list(range(rows))  # ... and nothing left out


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("sequences", [1, 2, 3])
def test_no_step_is_empty_however_small_the_batch(sequences: int) -> None:
    config = dataclasses.replace(CONFIG, sequences=sequences)
    plan = phased(3, config)
    assert all(plan.step(step) for step in range(200))
    assert all(pack for step in range(200) for pack in plan.step(step))


def test_step_one_million_of_a_billion_rows_costs_what_step_zero_costs() -> None:
    """Counted in rows looked at and bytes held; the seconds are in benchmarks/loader.py."""

    def cost(rows: int, step: int) -> tuple[int, int, int]:
        pools = tables(understanding=3 * rows // 10, text=2 * rows // 10, generation=rows // 2)
        config = dataclasses.replace(CONFIG, sequences=256, seq_len=2048)
        tracemalloc.start()
        plan = Plan([Phase(0, None, pools)], config)
        learned = sum(table.touched for table in pools.values())
        documents = sum(len(pack) for pack in plan.step(step))
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert documents > 1000
        return learned, sum(table.touched for table in pools.values()) - learned, held

    small = cost(1_000_000, 0)
    large = cost(1_000_000_000, 1_000_000)
    assert large[0] <= 310_000
    assert abs(large[1] - small[1]) < 0.01 * small[1] < 400
    assert large[2] < 1.1 * small[2] < 100e6


def test_row_longer_than_a_pack_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^text: row \d+ has \d+ tokens, data.seq_len is 512; raise it, or build"
    ) as error:
        plan_of(dataclasses.replace(CONFIG, seq_len=512))
    assert "\n" not in str(error.value)


def test_data_order_is_version_1() -> None:
    """If this fails, the order of every run changes: raise ORDER_VERSION and write a CHANGELOG line."""
    plan = phased(20)
    batches = [
        [[dataclasses.astuple(draw) for draw in pack] for pack in plan.step(step)] for step in (0, 19, 20, 10**6)
    ]
    assert digest(batches) == "b8589e89514206d9f45c1610b729b1fb34221c0a656e5af9fc78a5a2a730d4e2"
