"""Weights and epoch caps of sources: exact shares, whole epochs, a closed form; and what a run takes from each."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from janus.data.config import DataConfig
from janus.data.loader import Loader
from janus.data.mixture import main, phases, repeats, source_uses
from janus.data.order import Shares
from janus.data.plan import Plan
from schemas.manifest import Snapshot
from tests.data.make import TOKENS, MadeSource, make_corpus

SOURCES = (
    MadeSource("photos", "understanding", 60),
    MadeSource("charts", "understanding", 30, words=(30, 40)),
    MadeSource("classes", "generation", 90, words=(1, 2)),
    MadeSource("drawings", "generation", 40),
    MadeSource("paintings", "generation", 10),
)
CONFIG = DataConfig(ratio=(1, 0, 2), sequences=8, seq_len=64, seed=5)
STEPS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    folder = tmp_path_factory.mktemp("mixture") / "corpus"
    return folder, make_corpus(folder, SOURCES, shard_rows=16)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("janus.data.plan.WINDOW_SLOTS", 256)


def taken(made: tuple[Path, Snapshot], config: DataConfig, steps: int = STEPS) -> dict[str, Counter[bytes]]:
    """How often each row of each source comes in the first steps, as loaded."""
    folder, snapshot = made
    planned = phases(folder, snapshot, config, steps)
    pools = {pool.name: pool for phase in planned for pool in phase.pools.values()}
    plan = Plan(planned, config)
    counts: dict[str, Counter[bytes]] = {}
    for step in range(steps):
        for draw in (draw for pack in plan.step(step) for draw in pack):
            pool = pools[draw.pool]
            (source,) = pool.source_of(np.array([draw.row]))
            counts.setdefault(source, Counter())[pool.row(draw.row).uid] += 1
    return counts


@pytest.mark.parametrize("parts", [[1], [3, 5], [1, 1, 1], [7, 0, 2, 1], [1, 2**20, 1000, 3], [0, 0, 4]])
def test_shares_are_exact_at_every_place(parts: list[int]) -> None:
    """Against a walk through the stream that only counts."""
    shares = Shares(parts)
    count = 3000
    source, place = shares.places(np.arange(count, dtype=np.int64))
    seen = [0] * len(parts)
    for index in range(count):
        assert place[index] == seen[source[index]]
        seen[source[index]] += 1
        for number, part in enumerate(parts):
            assert abs(seen[number] - (index + 1) * part / sum(parts)) < len(parts)
    # Looked up anywhere, and far out, where a product of 64-bit numbers would overflow.
    far = 10**15 + np.arange(1000, dtype=np.int64)
    once, again = shares.places(far), shares.places(far[::-1].copy())
    assert np.array_equal(once[0], again[0][::-1])
    assert np.array_equal(once[1], again[1][::-1])
    for number in range(len(parts)):
        here = once[1][once[0] == number]
        assert np.array_equal(here, np.arange(len(here)) + (here[0] if len(here) else 0))
        if len(here):
            assert abs(int(here[0]) - 10**15 * parts[number] // sum(parts)) <= len(parts)


def test_without_weights_nothing_changes(made: tuple[Path, Snapshot]) -> None:
    folder, snapshot = made
    plain = Plan(phases(folder, snapshot, CONFIG, STEPS), CONFIG)
    other = dataclasses.replace(CONFIG, weights={}, max_epochs={})
    again = Plan(phases(folder, snapshot, other, STEPS), other)
    assert [plain.step(step) for step in range(5)] == [again.step(step) for step in range(5)]
    assert {type(pool).__name__ for phase in phases(folder, snapshot, CONFIG, 1) for pool in phase.pools.values()} == {
        "Pool"
    }


@pytest.mark.parametrize("shuffle", ["row", "block"])
def test_a_source_of_weight_two_comes_twice_as_often(made: tuple[Path, Snapshot], shuffle: str) -> None:
    mixed = {"drawings": 2.0, "paintings": 0.0, "charts": 0.5}
    config = dataclasses.replace(CONFIG, weights=mixed, shuffle=shuffle, block_shards=2)
    counts = taken(made, config)
    total = {source: sum(rows.values()) for source, rows in counts.items()}
    assert set(total) == {"photos", "charts", "classes", "drawings"}
    # 90 rows at weight 1 and 40 at weight 2; 60 at 1 and 30 at a half.
    assert total["drawings"] / total["classes"] == pytest.approx(80 / 90, rel=0.01)
    assert total["charts"] / total["photos"] == pytest.approx(15 / 60, rel=0.03)
    for source, rows in counts.items():
        # Whole epochs: no row comes twice more often than another of its source.
        assert max(rows.values()) - min(rows.values()) <= 1, source
        assert len(rows) == min(sum(rows.values()), {one.name: one.rows for one in SOURCES}[source])


@pytest.mark.parametrize("shuffle", ["row", "block"])
def test_a_repeated_row_has_another_epoch(made: tuple[Path, Snapshot], shuffle: str) -> None:
    folder, snapshot = made
    config = dataclasses.replace(CONFIG, weights={"paintings": 9.0}, shuffle=shuffle, block_shards=2)
    plan = Plan(phases(folder, snapshot, config, STEPS), config)
    seen = Counter(
        (draw.pool, draw.row, draw.epoch) for step in range(STEPS) for pack in plan.step(step) for draw in pack
    )
    assert max(seen.values()) == 1


@pytest.mark.parametrize(
    "caps", [{"paintings": 2.0}, {"all": 20.0, "classes": 1.5}, {"drawings": 0.5, "paintings": 0.5}]
)
def test_no_source_comes_more_often_than_its_cap(made: tuple[Path, Snapshot], caps: dict[str, float]) -> None:
    config = dataclasses.replace(CONFIG, max_epochs=caps, weights={"paintings": 5.0})
    counts = taken(made, config)
    rows = {source.name: source.rows for source in SOURCES}
    uncapped = taken(made, dataclasses.replace(CONFIG, weights={"paintings": 5.0}))
    reached = 0
    for source, cap in caps.items():
        for name in rows if source == "all" else [source]:
            if source == "all" and name in caps:
                continue
            found = sum(counts[name].values())
            assert found <= cap * rows[name] + 3
            if sum(uncapped[name].values()) > cap * rows[name]:
                # The cap binds: it is used up to a few documents, from the first step to the last.
                assert found >= 0.97 * cap * rows[name] - 3
                reached += 1
    assert reached
    first_half = taken(made, config, STEPS)
    assert first_half == counts
    # The other sources give what the capped ones may not.
    assert sum(sum(c.values()) for c in counts.values()) == pytest.approx(
        sum(sum(c.values()) for c in uncapped.values()), rel=0.2
    )


def test_caps_that_leave_too_little_are_one_line(made: tuple[Path, Snapshot]) -> None:
    folder, snapshot = made
    config = dataclasses.replace(CONFIG, max_epochs={"all": 1.0})
    said = r"allows 90 samples of understanding, and the run takes [\d,]+; raise it"
    with pytest.raises(ValueError, match=said) as caught:
        phases(folder, snapshot, config, 1000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"paintingz": 1.0}}, "data.weights names paintingz: no such source in snapshot .*charts, classes"),
        ({"max_epochs": {"nobody": 1.0}}, "data.max_epochs names nobody: no such source"),
        ({"weights": {"photos": 0.0, "charts": 0.0}}, "data.weights leaves no source for understanding"),
    ],
)
def test_wrong_names_are_one_line(
    made: tuple[Path, Snapshot], change: dict[str, dict[str, float]], message: str
) -> None:
    folder, snapshot = made
    with pytest.raises(ValueError, match=message):
        phases(folder, snapshot, dataclasses.replace(CONFIG, **change), STEPS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"weights": {"a": -1.0}}, {"max_epochs": {"a": 0.0}}, {"weights": {"a": float("nan")}}]
)
def test_numbers_that_mean_nothing_are_refused(change: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match=r"^data.(weights|max_epochs) a .*: expected") as caught:
        DataConfig(**change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config", [CONFIG, dataclasses.replace(CONFIG, weights={"drawings": 3.0})], ids=["plain", "weights"]
)
def test_uses_are_what_a_run_takes(made: tuple[Path, Snapshot], config: DataConfig) -> None:
    folder, snapshot = made
    planned = phases(folder, snapshot, config, STEPS)
    plan = Plan(planned, config)
    uses = {use.source: use for use in source_uses(planned, plan, config, STEPS)}
    counts = taken(made, config)
    for source, rows in counts.items():
        assert uses[source].samples == pytest.approx(sum(rows.values()), rel=0.05, abs=6)
    tokens = sum(draw.length for step in range(STEPS) for pack in plan.step(step) for draw in pack)
    assert sum(use.tokens for use in uses.values()) == pytest.approx(tokens, rel=0.04)
    assert [line.split(":")[0] for line in repeats(list(uses.values()))] == [
        "rows are repeated, epochs over the whole run"
    ]
    assert repeats([dataclasses.replace(use, samples=use.rows) for use in uses.values()]) == []


def test_weights_and_caps_name_the_order(made: tuple[Path, Snapshot]) -> None:
    folder, snapshot = made

    def order(steps: int, **change: dict[str, float]) -> str:
        data = dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]
        return Loader(folder, snapshot, data=data, tokens=TOKENS, steps=steps).order

    assert order(20) == order(30)
    assert order(20, weights={"photos": 2.0}) != order(20)
    assert order(20, weights={"photos": 2.0}) == order(30, weights={"photos": 2.0})
    # Caps hold over the whole run, so its length is part of the order.
    assert order(20, max_epochs={"photos": 9.0}) != order(30, max_epochs={"photos": 9.0})


def test_the_command_prints_a_line_per_source(
    made: tuple[Path, Snapshot], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"mixture {made[0]} --stage 1 --preset tiny --steps 50 --data.sequences 4 --data.weights drawings 2"
    monkeypatch.setattr(sys, "argv", words.split())
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("50 steps")
    assert [line.split()[:2] for line in lines[2:7]] == [
        ["charts", "understanding"],
        ["photos", "understanding"],
        ["classes", "generation"],
        ["drawings", "generation"],
        ["paintings", "generation"],
    ]
    epochs = {line.split()[0]: float(line.split()[-1]) for line in lines[2:7]}
    assert epochs["drawings"] == pytest.approx(2 * epochs["classes"], rel=0.01)
    assert lines[7].startswith("rows are repeated")
    for wrong, message in (("--preset huge", "--preset huge: expected one of"), ("--stage 7", "--stage 7: expected")):
        monkeypatch.setattr(sys, "argv", f"mixture {made[0]} {wrong}".split())
        with pytest.raises(ValueError, match=message):
            main()
