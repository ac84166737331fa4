"""Decide: keep, or drop for one closed-set reason. Thresholds live here, so changing one measures nothing again.

What a shard's decisions depend on is gathered first: its filters, where the best-scored share ends, and which of its
rows are duplicates of rows anywhere. All three enter its key, so a shard is decided again only if one of them changed.
Both global rules look back only (the best share is taken within each generation of a source; older rows win over
newer duplicates), so a refresh leaves all older decisions as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import ledger
from pipelines.shardio import write_table
from pipelines.steps.context import Build, LayerWork, Shard, make_layer
from pipelines.steps.dedup import DedupWork, Duplicate
from pipelines.steps.filters import Gate, judge, rank_gate
from schemas.digest import digest
from schemas.layers import DECISION
from schemas.reasons import Drop, Outcome
from schemas.spec import Filters

VERSION = 1


@dataclass(frozen=True)
class Rules:
    """All that decides over one shard."""

    filters: Filters
    gate: Gate | None
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True)
class DecideStep:
    """Makes one decision shard from one signals shard; `work.extra` is its Rules."""

    corpus: Path

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: LayerWork, advance: Callable[[int], None]) -> None:
        """Decide and commit one shard."""
        shard, rules = work.shard, work.extra
        _, reader = ledger.open_input(self.corpus, shard.path("signals"))
        table = decisions(reader.table(), rules)
        written = write_table(self.corpus / work.output, "decision", table)
        work.commit(self.corpus, written, count_decisions(table))
        advance(table.num_rows)


def decisions(signals: pa.Table, rules: Rules) -> pa.Table:
    """The decision layer for a shard's signals."""
    reasons = judge(signals, rules.filters, rules.gate)
    winners = np.full(signals.num_rows, None, dtype=object)
    for duplicate in rules.duplicates:
        reasons[duplicate.row] = duplicate.reason.value
        winners[duplicate.row] = bytes.fromhex(duplicate.winner)
    columns = [signals.column("uid"), signals.column("outcome"), pa.array(reasons, pa.string()), pa.array(winners)]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, DECISION, strict=True)], names=DECISION.names
    )


def count_decisions(table: pa.Table) -> Counter[str]:
    """Rows by what became of them: a failed outcome, a drop reason, or `kept`."""
    counts: Counter[str] = Counter()
    for outcome, reason in zip(table.column("outcome").to_pylist(), table.column("reason").to_pylist(), strict=True):
        counts[outcome if outcome != Outcome.OK else reason or Drop.KEPT.value] += 1
    return counts


def recipe(rules: Rules) -> ledger.Recipe:
    """What a decision shard depends on, besides its signals."""
    duplicates = [[item.row, item.reason.value, item.winner] for item in rules.duplicates]
    gate = None if rules.gate is None else [repr(rules.gate.score), rules.gate.uid]
    config = {"filters": rules.filters.model_dump(mode="json"), "gate": gate, "duplicates": digest(duplicates)}
    return ledger.Recipe("decision", VERSION, config)


def _gates(build: Build, shards: Sequence[Shard]) -> dict[tuple[str, int], Gate | None]:
    """Per source and generation, where its best-scored share ends."""
    groups: dict[tuple[str, int], list[Shard]] = defaultdict(list)
    for shard in shards:
        groups[shard.source, shard.generation].append(shard)
    gates: dict[tuple[str, int], Gate | None] = {}
    for (source, generation), members in groups.items():
        filters = build.filters(source)
        tables = (ledger.open_input(build.corpus, shard.path("signals"))[1].table() for shard in members)
        gates[source, generation] = rank_gate(tables, filters) if filters.keep_top is not None else None
    return gates


def _duplicates(
    build: Build, shards: Sequence[Shard], gates: dict[tuple[str, int], Gate | None]
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
                shard.path("rows"),
                shard.path("signals"),
                shard.task,
                shard.generation,
                build.filters(shard.source),
                gates[shard.source, shard.generation],
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
        gate = gates[shard.source, shard.generation]
        rules = Rules(build.filters(shard.source), gate, tuple(duplicates.get(index, ())))
        works.append(build.work(shard, recipe(rules), shard.inputs("signals"), rules))
    return make_layer(build, "decide", lambda: DecideStep(build.corpus), works, light=True)
