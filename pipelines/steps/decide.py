"""Decide: keep, or drop for one reason. Thresholds live here, so changing one measures nothing again.

What a shard's decisions depend on is gathered first: its filters, what those of them that compare rows found out,
which of its rows are duplicates of rows anywhere, and which its source has superseded. All of it enters its key, so a
shard is decided again only if something of it changed. Both global rules look back only (rows are compared within those
of a source that are new in one snapshot; older rows win over newer duplicates), so a refresh leaves all older decisions
as they are, but for rows that changed at their source and for duplicates of these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import ledger
from pipelines.engine import LIGHT_ROWS, run_folder_in
from pipelines.filters import Filter, Mask
from pipelines.shardio import write_table
from pipelines.steps.changes import Superseded
from pipelines.steps.comparison import Pass, PassWork, compare
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.dedup import DedupWork, Duplicate, duplicates_digest, embedding_width
from pipelines.steps.dedup_passes import AllPassesStep, DuplicatesOf, PassStep, gather, run_passes
from pipelines.steps.judge import fields_of, judge, loaded, standing
from pipelines.steps.signal_table import signal_table
from pipelines.steps.take_down import take_down
from schemas.layers import DECISION, signal_layer
from schemas.reasons import Drop, Outcome
from storage.store import Store

VERSION = 2

Gates = Mapping[str, Any]
"""What the filters that compare rows found out, by filter."""


@dataclass(frozen=True)
class Rules:
    """All that decides over one shard."""

    filters: tuple[Filter, ...]
    gates: Gates
    duplicates: DuplicatesOf
    superseded: Superseded = ()


@dataclass(frozen=True)
class DecideStep:
    """Makes one decision shard from the signals of one shard."""

    corpus: Store

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: LayerWork[Rules], advance: Callable[[int], None]) -> None:
        """Decide and commit one shard."""
        rules = work.extra
        signals = signal_table(self.corpus, work.shard.paths, fields_of(rules.filters))
        table = decisions(
            signals, judge(signals, rules.filters, rules.gates), rules.duplicates.read(), rules.superseded
        )
        written = write_table(self.corpus, work.output, DECISION, table)
        work.commit(self.corpus, written, count_decisions(table))
        advance(table.num_rows)


@dataclass(frozen=True)
class GateStep:
    """Has the filters that compare the rows of a source do so; rows that are taken down take no part."""

    corpus: Store

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: tuple[tuple[Filter, ...], Sequence[Shard]], advance: Callable[[int], None]) -> Gates:
        """What each of them found out over some shards of one source."""
        filters, shards = work
        alone = [filter for filter in filters if filter.gate is None]

        def rows() -> Iterator[tuple[pa.Table, Mask]]:
            for shard in shards:
                table = signal_table(self.corpus, shard.paths, fields_of(filters))
                there = np.ones(table.num_rows, dtype=bool)
                there[[row for row, reason in shard.superseded if reason == Drop.TAKEN_DOWN]] = False
                table = loaded(table.filter(pa.array(there)))
                yield table, standing(judge(table, alone, {}))

        return {filter.name: filter.gate(rows()) for filter in filters if filter.gate is not None}


def decisions(
    signals: pa.Table, reasons: np.ndarray, duplicates: Sequence[Duplicate], superseded: Superseded = ()
) -> pa.Table:
    """The decision layer for a shard's signals, with the reasons of its filters, its duplicates, and the rows that its
    source has superseded."""
    winners = np.full(signals.num_rows, None, dtype=object)
    for duplicate in duplicates:
        reasons[duplicate.row] = duplicate.reason.value
        winners[duplicate.row] = bytes.fromhex(duplicate.winner)
    loaded_rows = np.array(signals.column("image.outcome").to_pylist(), dtype=object) == Outcome.OK.value
    for row, reason in superseded:
        if loaded_rows[row]:
            reasons[row] = reason.value
    columns = [
        signals.column("uid"),
        signals.column("image.outcome"),
        pa.array(reasons, pa.string()),
        pa.array(winners),
    ]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, DECISION, strict=True)], names=DECISION.names
    )


def count_decisions(table: pa.Table) -> Counter[str]:
    """Rows by what became of them: a failed outcome, a drop reason, or `kept`."""
    counts: Counter[str] = Counter()
    for outcome, reason in zip(table.column("outcome").to_pylist(), table.column("reason").to_pylist(), strict=True):
        counts[outcome if outcome != Outcome.OK else reason or Drop.KEPT.value] += 1
    return counts


def step_spec(rules: Rules) -> ledger.StepSpec:
    """What a decision shard depends on, besides the signals that its filters read."""
    config: dict[str, Any] = {
        "filters": [filter.key for filter in rules.filters],
        "gates": dict(rules.gates),
        "duplicates": rules.duplicates.digest,
    }
    if rules.superseded:
        config["superseded"] = [[row, reason.value] for row, reason in rules.superseded]
    return ledger.StepSpec("decision", VERSION, config)


def _inputs(shard: Shard, filters: Sequence[Filter]) -> dict[str, str]:
    """The signals that decide, the contamination layer, and which rows lack a caption: others may come and go."""
    names = {"image", *(field.partition(".")[0] for field in fields_of(filters))}
    layers = {"contamination", "recaption", *(signal_layer(name) for name in names)}
    return shard.inputs(*sorted(layers & shard.layers.keys()))


def _gates(build: Build, shards: Sequence[Shard]) -> dict[tuple[str, int], Gates]:
    """Per source and first snapshot, what the filters that compare its rows found out."""
    groups: dict[tuple[str, int], list[Shard]] = defaultdict(list)
    for shard in shards:
        groups[shard.source, shard.first_snapshot].append(shard)
    works = []
    for (source, first_snapshot), members in groups.items():
        filters = build.selections[source].filters
        if any(filter.gate is not None for filter in filters):
            works.append(((source, first_snapshot), (filters, members)))
    rows = sum(shard.rows for _, (_, members) in works for shard in members)
    items = [(f"{source} of snapshot {number}", work) for (source, number), work in works]
    found = build.run("compare", GateStep(build.corpus), items, light_rows=rows)
    return {**{group: {} for group in groups}, **dict(zip((group for group, _ in works), found, strict=True))}


def _duplicates(
    build: Build, shards: Sequence[Shard], gates: Mapping[tuple[str, int], Gates], scratch: Store
) -> dict[int, DuplicatesOf]:
    """Duplicates by the shard's place in `shards`, in files in `scratch`; none where nothing is compared."""
    dedup = build.spec.dedup
    if not shards or not dedup.compares:
        return {}
    tasks = []
    for task in sorted({shard.task for shard in shards}):
        works = [
            DedupWork(
                index,
                shard.paths,
                shard.task,
                shard.first_snapshot,
                build.selections[shard.source].filters,
                gates[shard.source, shard.first_snapshot],
                shard.superseded,
            )
            for index, shard in enumerate(shards)
            if shard.task == task
        ]
        width = embedding_width(build.corpus, works, dedup)
        tasks.append(compare(task, works, [shards[work.index].rows for work in works], dedup, scratch, width))
    if (rows := sum(shard.rows for shard in shards)) < LIGHT_ROWS:
        (digests,) = build.run("dedup", AllPassesStep(build.corpus), [("all shards", tasks)], light_rows=rows)
    else:
        digests = run_passes(tasks, partial(_on_engine, build, rows))
    groups = [group for groups in tasks for group in groups]
    return {
        shard.index: DuplicatesOf(shard_digest, group.comparison, group.index, place)
        for group, of_group in zip(groups, digests, strict=True)
        for place, (shard, shard_digest) in enumerate(zip(group.shards, of_group, strict=True))
    }


def _on_engine(build: Build, rows: int, name: str, do: Pass, items: Sequence[PassWork]) -> list[Any]:
    # Only the first pass reads signals; what the others do to a row takes a tenth of the time.
    light_rows = None if do is gather else rows // 10
    named = [(f"{item.comparison.task} {item.index}", item) for item in items]
    return build.run(name, PassStep(build.corpus, do), named, light_rows)


def decide(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the decision layer. `shards` are all of the corpus, in plan's order."""
    from pipelines.steps.decontaminate import decontaminate  # late: it opens pictures, and verify needs none

    shards = decontaminate(build, take_down(build, shards))
    with run_folder_in(build.scratch, "dedup") as scratch:
        gates = _gates(build, shards)
        duplicates = _duplicates(build, shards, gates, scratch)
        none = DuplicatesOf(duplicates_digest(()))
        works = []
        for index, shard in enumerate(shards):
            filters = build.selections[shard.source].filters
            rules = Rules(
                filters, gates[shard.source, shard.first_snapshot], duplicates.get(index, none), shard.superseded
            )
            works.append(build.work(shard, step_spec(rules), _inputs(shard, filters), rules))
        return make_layer(build, "decide", lambda: DecideStep(build.corpus), works, light=True)
