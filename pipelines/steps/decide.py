"""Decide: keep, or drop for one reason. Thresholds live here, so changing one measures nothing again.

What a shard's decisions depend on is gathered first: its filters, what those of them that compare rows found out, and
which of its rows are duplicates of rows anywhere. All three enter its key, so a shard is decided again only if one of
them changed. Both global rules look back only (rows are compared within those of a source that are new in one snapshot;
older rows win over newer duplicates), so a refresh leaves all older decisions as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import ledger
from pipelines.filters import Filter, Mask
from pipelines.shardio import write_table
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.dedup import DedupWork, Duplicate
from pipelines.steps.judge import fields_of, judge, loaded, standing
from pipelines.steps.signal_table import signal_table
from schemas.digest import digest
from schemas.layers import DECISION, signal_layer
from schemas.reasons import Drop, Outcome

VERSION = 2

Gates = Mapping[str, Any]
"""What the filters that compare rows found out, by filter."""


@dataclass(frozen=True)
class Rules:
    """All that decides over one shard."""

    filters: tuple[Filter, ...]
    gates: Gates
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True)
class DecideStep:
    """Makes one decision shard from the signals of one shard."""

    corpus: Path

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: LayerWork[Rules], advance: Callable[[int], None]) -> None:
        """Decide and commit one shard."""
        table = decisions(signal_table(self.corpus, work.shard.paths, fields_of(work.extra.filters)), work.extra)
        written = write_table(self.corpus / work.output, DECISION, table)
        work.commit(self.corpus, written, count_decisions(table))
        advance(table.num_rows)


def decisions(signals: pa.Table, rules: Rules) -> pa.Table:
    """The decision layer for a shard's signals."""
    reasons = judge(signals, rules.filters, rules.gates)
    winners = np.full(signals.num_rows, None, dtype=object)
    for duplicate in rules.duplicates:
        reasons[duplicate.row] = duplicate.reason.value
        winners[duplicate.row] = bytes.fromhex(duplicate.winner)
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
    duplicates = [[item.row, item.reason.value, item.winner] for item in rules.duplicates]
    config = {
        "filters": [filter.key for filter in rules.filters],
        "gates": dict(rules.gates),
        "duplicates": digest(duplicates),
    }
    return ledger.StepSpec("decision", VERSION, config)


def _inputs(shard: Shard, filters: Sequence[Filter]) -> dict[str, str]:
    """The signals that decide: others may come and go."""
    names = {"image", *(field.partition(".")[0] for field in fields_of(filters))}
    return shard.inputs(*sorted({signal_layer(name) for name in names} & shard.layers.keys()))


def _gates(build: Build, shards: Sequence[Shard]) -> dict[tuple[str, int], Gates]:
    """Per source and first snapshot, what the filters that compare its rows found out."""
    groups: dict[tuple[str, int], list[Shard]] = defaultdict(list)
    for shard in shards:
        groups[shard.source, shard.first_snapshot].append(shard)
    return {group: _gates_of(build, group[0], members) for group, members in groups.items()}


def _gates_of(build: Build, source: str, shards: Sequence[Shard]) -> Gates:
    filters = build.selections[source].filters
    alone = [filter for filter in filters if filter.gate is None]

    def rows() -> Iterator[tuple[pa.Table, Mask]]:
        for shard in shards:
            table = loaded(signal_table(build.corpus, shard.paths, fields_of(filters)))
            yield table, standing(judge(table, alone, {}))

    return {filter.name: filter.gate(rows()) for filter in filters if filter.gate is not None}


def _duplicates(
    build: Build, shards: Sequence[Shard], gates: Mapping[tuple[str, int], Gates]
) -> dict[int, list[Duplicate]]:
    """Duplicates by the shard's place in `shards`."""
    dedup = build.spec.dedup
    if not shards or (not dedup.exact and dedup.near_radius is None):
        return {}
    from pipelines.steps.dedup_pipeline import find_duplicates

    works = [
        (
            shard.label,
            DedupWork(
                index,
                shard.paths,
                shard.task,
                shard.first_snapshot,
                build.selections[shard.source].filters,
                gates[shard.source, shard.first_snapshot],
            ),
        )
        for index, shard in enumerate(shards)
    ]
    return find_duplicates(build, works, sum(shard.rows for shard in shards))


def decide(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """Add the decision layer. `shards` are all of the corpus, in plan's order."""
    gates = _gates(build, shards)
    duplicates = _duplicates(build, shards, gates)
    works = []
    for index, shard in enumerate(shards):
        filters = build.selections[shard.source].filters
        rules = Rules(filters, gates[shard.source, shard.first_snapshot], tuple(duplicates.get(index, ())))
        works.append(build.work(shard, step_spec(rules), _inputs(shard, filters), rules))
    return make_layer(build, "decide", lambda: DecideStep(build.corpus), works, light=True)
