"""Which sources feed which task when, and how much: pools and phases of a snapshot (design D8).

    python -m janus.data.mixture CORPUS --stage 2 --preset janus-1.3b --data.weights laion 2 --data.max-epochs all 4

prints how many samples, tokens and epochs each source gives over the whole run. All sources of a task form one pool.
Each is drawn in proportion to its rows and seen once per epoch, unless `data.weights` or `data.max_epochs` say
otherwise; `data.first_group` makes two phases of the run (stage 2: ImageNet first, paper section 3.2).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from janus.cli import escape, parse, run
from janus.data.config import DataConfig, DataOrder
from janus.data.hold_out import Split, split_of
from janus.data.mixed_pool import MixedPool
from janus.data.plan import Phase, Plan, augmentation
from janus.data.replay import SUFFIX, Replay, TaskShare, cycle_counts, is_replayed, load_replay, task_shares
from janus.data.shards import Pool, PoolShard, pool_shards
from janus.plain import fill, overlay
from janus.presets import NAMES as PRESETS
from janus.presets import read_preset
from schemas.manifest import Snapshot, load_snapshot
from schemas.sample import TASKS, Task
from storage.places import Place
from storage.verified import Verified

ROUNDS = 20
"""Attempts at shares that keep the caps. Shares change the mean length, hence how many documents a run takes."""
ALL = "all"
"""In `data.max_epochs`: the sources that it does not name."""


AnyPool = Pool | MixedPool


def phases(
    corpus: Place,
    snapshot: Snapshot,
    config: DataOrder,
    steps: int,
    verified: Verified | None = None,
    *,
    replay: Replay | None = None,
    held_out: bool = False,
) -> list[Phase[AnyPool]]:
    """One phase, or two where `config.first_group` feeds generation alone for the first part of `steps`.

    Args:
        replay: the corpus that `config.replay` names.
        held_out: of the rows that `config.hold_out` keeps from training, and not of the others.

    Raises ValueError with one line where a phase needs rows that the snapshot does not have, a weight or cap names no
    source, or the run needs more than the caps allow.
    """
    _check_names(snapshot, config)
    split = split_of(config, held_out=held_out)
    plain = _plain_phases(corpus, snapshot, config, steps, verified, split, replay)
    if not config.weights and not config.max_epochs and replay is None:
        return plain  # type: ignore[return-value]
    by_task = shares_by_task(plain, config)
    replayed = {
        pool.name: by_task[task].replayed / by_task[task].whole for phase in plain for task, pool in phase.pools.items()
    }
    pools = {pool.name: pool for phase in plain for pool in phase.pools.values()}
    needed = dict.fromkeys(pools, 0)
    for _ in range(ROUNDS):
        shares = {name: _shares(pool, config, needed[name], replayed[name]) for name, pool in pools.items()}
        mixed: dict[str, AnyPool] = {name: MixedPool(pool, shares[name]) for name, pool in pools.items()}
        found = [
            Phase(phase.first_step, phase.num_steps, {task: mixed[pool.name] for task, pool in phase.pools.items()})
            for phase in plain
        ]
        if not config.max_epochs:
            return found
        drawn = {
            name: math.ceil(count * (1 - replayed[name])) for name, count in plan_of(found, config).drawn(steps).items()
        }
        if all(drawn[name] <= needed[name] for name in pools):
            return found
        needed = {name: max(needed[name], drawn[name]) for name in pools}
    raise ValueError(f"data.max_epochs {config.max_epochs}: found no shares of the sources that keep to it")


def plan_of(planned: Sequence[Phase[AnyPool]], config: DataOrder) -> Plan:
    """The plan of `phases`, with the ratio of tasks that follows from their rows or from replay."""
    if config.ratio_unit == "rows" or config.replay:
        counts = cycle_counts(shares_by_task(planned, config))
        config = replace(config, ratio=counts, ratio_unit="samples")
    return Plan(planned, config)


def shares_by_task(planned: Sequence[Phase[AnyPool]], config: DataOrder) -> dict[Task, TaskShare]:
    """The share of each task of all documents, of the run's own corpus and replayed."""
    return task_shares(config, *rows_of(planned, config))


def rows_of(planned: Sequence[Phase[AnyPool]], config: DataOrder) -> tuple[dict[Task, int], dict[Task, int]]:
    """Rows of each task that come at all: of the run's own corpus, and of the replayed one."""
    own, replayed = dict.fromkeys(TASKS, 0), dict.fromkeys(TASKS, 0)
    pools = {pool.name: (task, pool) for phase in planned for task, pool in phase.pools.items()}
    for task, pool in pools.values():
        for source, rows in pool.sources.items():
            if is_replayed(source):
                replayed[task] += rows
            elif config.weights.get(source, 1.0):
                own[task] += rows
    return own, replayed


def _shares(pool: Pool, config: DataOrder, draws: int, replayed: Fraction) -> dict[str, float]:
    """Share of each source of a pool of whose documents `replayed` are of the replay corpus, there by rows.

    Args: documents of the run's own sources that a run takes.
    """
    old = {source: rows for source, rows in pool.sources.items() if is_replayed(source)}
    given = {source: float(replayed * rows / sum(old.values())) for source, rows in old.items()}
    if replayed < 1:
        own = capped_shares(pool, config, draws)
        given |= {source: share * float(1 - replayed) for source, share in own.items()}
    return {source: given.get(source, 0.0) for source in pool.sources}


def capped_shares(pool: Pool, config: DataOrder, draws: int) -> dict[str, float]:
    """Share of each source of a pool of which a run takes `draws` documents: by weighted rows, or what a cap leaves.

    Sources of a replay corpus are left out.

    Raises ValueError with one line where the caps leave too little.
    """
    own = {source: rows for source, rows in pool.sources.items() if not is_replayed(source)}
    wanted = {source: rows * config.weights.get(source, 1.0) for source, rows in own.items()}
    if not sum(wanted.values()):
        raise ValueError(f"data.weights leaves no source for {pool.name}")
    cap = {
        source: rows * config.max_epochs.get(source, config.max_epochs.get(ALL, math.inf))
        for source, rows in own.items()
    }
    allowed = sum(cap[source] for source, amount in wanted.items() if amount)
    if allowed < draws:
        raise ValueError(
            f"data.max_epochs {config.max_epochs} allows {allowed:,.0f} samples of {pool.name}, and the run takes "
            f"{draws:,}; raise it, shorten the run, or add data"
        )
    # One source after another reaches its cap; the rest share what is left by their weights.
    given: dict[str, float] = {}
    while True:
        free = {source: amount for source, amount in wanted.items() if source not in given}
        left = draws - sum(given.values())
        total = sum(free.values())
        over = [source for source, amount in free.items() if total and left * amount / total > cap[source]]
        if not over:
            break
        given |= {source: cap[source] for source in over}
    if not draws:
        return {source: amount / total for source, amount in wanted.items()}
    result = {source: given.get(source, left * free.get(source, 0.0) / total if total else 0.0) for source in wanted}
    whole = sum(result.values())
    return {source: amount / whole for source, amount in result.items()}


def _check_names(snapshot: Snapshot, config: DataOrder) -> None:
    known = {shard.source for shard in snapshot.shards}
    for option, names in (("weights", set(config.weights)), ("max_epochs", set(config.max_epochs) - {ALL})):
        if unknown := sorted(names - known):
            raise ValueError(
                f"data.{option} names {', '.join(unknown)}: no such source in snapshot {snapshot.name}; "
                f"there are {', '.join(sorted(known))}"
            )


def _plain_phases(
    corpus: Place,
    snapshot: Snapshot,
    config: DataOrder,
    steps: int,
    verified: Verified | None,
    split: Split | None,
    replay: Replay | None,
) -> list[Phase[Pool]]:
    asked = {task for task, part in zip(TASKS, config.ratio, strict=True) if part}
    again = {task for task, part in zip(TASKS, config.replay_ratio, strict=True) if part and replay is not None}

    def pool(task: Task, name: str, shards: list[PoolShard], what: str = "") -> Pool:
        found = Pool(name, shards + replayed.get(task, []), verified, split)
        if task in asked and config.ratio_unit != "rows" and all(map(is_replayed, found.sources)):
            held = f" outside of data.hold_out {config.hold_out}" if config.hold_out else ""
            raise ValueError(
                f"the recipe trains on {what or name}, but snapshot {snapshot.name} of corpus {snapshot.corpus!r} has "
                f"no such rows{held}; change data.ratio or data.first_group, or add a source"
            )
        return found

    shards = {
        task: pool_shards(corpus, [shard for shard in snapshot.shards if shard.task == task]) if task in asked else []
        for task in TASKS
    }
    replayed: dict[Task, list[PoolShard]] = {}
    if replay is not None:
        for task in again:
            old = [shard for shard in replay.snapshot.shards if shard.task == task]
            replayed[task] = sorted(pool_shards(replay.corpus, old, SUFFIX), key=lambda shard: shard.source)
    if config.weights or config.max_epochs or replay is not None:
        # Sources side by side, as MixedPool wants them.
        shards = {task: sorted(found, key=lambda shard: shard.source) for task, found in shards.items()}
    tasks = [task for task in TASKS if task in asked | again]
    if not config.first_group or "generation" not in asked:
        pools = {task: pool(task, task, shards[task]) for task in tasks}
        return [Phase(0, None, {task: found for task, found in pools.items() if len(found)})]

    others: dict[Task, Pool] = {task: pool(task, task, shards[task]) for task in tasks if task != "generation"}
    group = config.first_group
    switch = round(config.first_share * steps)
    first = [shard for shard in shards["generation"] if shard.file.group == group]
    rest = [shard for shard in shards["generation"] if shard.file.group != group]
    # A pool's name seeds its order: these keep the word they were first given (ORDER_VERSION).
    found = []
    if switch > 0:
        only = pool("generation", f"generation of role {group!r}", first, f"generation of group {group!r}")
        found.append(Phase(0, switch if switch < steps else None, {**others, "generation": only}))
    if switch < steps:
        other = f"than {group!r}"
        all_others = pool(
            "generation", f"generation of a role other {other}", rest, f"generation of a group other {other}"
        )
        found.append(Phase(switch, None, {**others, "generation": all_others}))
    return found


@dataclass(frozen=True)
class SourceUse:
    """What a run takes from one source for one task."""

    source: str
    task: Task
    rows: int
    samples: float
    """Documents over the whole run, to within a window."""
    tokens: float
    """Of them: samples times the mean length of the source's rows."""

    @property
    def epochs(self) -> float:
        """How often each row comes."""
        return self.samples / self.rows


def source_uses(planned: Sequence[Phase[AnyPool]], plan: Plan, config: DataOrder, steps: int) -> list[SourceUse]:
    """What a run of `steps` takes from each source, in the order of tasks and names."""
    drawn = plan.drawn(steps)
    pools = {pool.name: (task, pool) for phase in planned for task, pool in phase.pools.items()}
    uses: dict[tuple[Task, str], SourceUse] = {}
    for name, (task, pool) in pools.items():
        numbers = pool.census()
        known = pool.look_up(numbers)
        short, _ = augmentation(task, known, np.zeros(len(numbers), np.int64), config)
        lengths = np.where(short, known.short_length, known.length)
        sources = np.asarray(pool.source_of(numbers))
        shares = pool.shares()
        for source, rows in pool.sources.items():
            samples = drawn[name] * shares[source]
            here = lengths[sources == source]
            mean = float(here.mean()) if len(here) else float(lengths.mean())
            before = uses.get((task, source), SourceUse(source, task, 0, 0.0, 0.0))
            uses[task, source] = SourceUse(
                source, task, before.rows + rows, before.samples + samples, before.tokens + samples * mean
            )
    return [uses[key] for key in sorted(uses, key=lambda key: (TASKS.index(key[0]), key[1]))]


def show_uses(uses: Sequence[SourceUse], console: Console) -> None:
    """Print the uses as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("source", "task", "rows", "samples", "tokens", "epochs"):
        table.add_column(column, justify="left" if column in ("source", "task") else "right")
    for use in uses:
        numbers = (f"{use.rows:,}", f"{use.samples:,.0f}", f"{use.tokens:,.0f}", f"{use.epochs:.2f}")
        table.add_row(escape(use.source), use.task, *numbers)
    console.print(table)


def repeats(uses: Sequence[SourceUse]) -> list[str]:
    """A line for the sources whose rows come more than once in the run; none if there are none."""
    repeated = [use for use in uses if use.epochs > 1.005]
    if not repeated:
        return []
    named = ", ".join(f"{escape(use.source)} ({use.task}) {use.epochs:.2f}" for use in repeated)
    return [f"rows are repeated, epochs over the whole run: {named}; data.max_epochs caps them"]


@dataclass(frozen=True)
class Command:
    """Which source gives how many samples, tokens and epochs over a whole run. Nothing is trained."""

    corpus: Annotated[str, tyro.conf.Positional]
    """Corpus folder, or its address (s3://, gs://, az://), with a published snapshot."""
    data: DataConfig
    steps: int
    """Steps of the run."""
    stage: int = 2
    """Stage whose recipe gives the defaults of all other fields ..."""
    preset: str = "janus-1.3b"
    """... in this preset."""
    snapshot: str = ""
    """Name of the snapshot; empty for the latest."""


PROG = "python -m janus.data.mixture"


def read_command(args: Sequence[str]) -> Command:
    """The command line as a Command. Raises ValueError with one line."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--stage", default="2")
    first.add_argument("--preset", default="janus-1.3b")
    chosen, _ = first.parse_known_args(args)
    if chosen.preset not in PRESETS:
        raise ValueError(f"--preset {chosen.preset}: expected one of {', '.join(PRESETS)}")
    table = read_preset(chosen.preset)
    if chosen.stage not in table["stage"]:
        raise ValueError(f"--stage {chosen.stage}: expected one of {', '.join(table['stage'])}")
    fields = overlay(table.get("training", {}), table["stage"][chosen.stage])
    start = Command(
        corpus=tyro.MISSING, data=fill(DataConfig, fields["data"], f"preset {chosen.preset}"), steps=fields["steps"]
    )
    return parse(Command, prog=PROG, args=args, default=start, description=__doc__)


def main() -> None:
    """Print the uses of a corpus."""
    command = read_command(sys.argv[1:])
    snapshot = load_snapshot(command.corpus, command.snapshot or None)
    verified = Verified() if command.data.verify else None
    replay = load_replay(command.data, snapshot)
    planned = phases(command.corpus, snapshot, command.data, command.steps, verified, replay=replay)
    for pool in {pool.name: pool for phase in planned for pool in phase.pools.values()}.values():
        for shard in pool.shards_of(pool.census()):
            pool.prepare(shard)  # hashed once per machine: a damaged length would be another number here
    uses = source_uses(planned, plan_of(planned, command.data), command.data, command.steps)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    console.print(f"snapshot {snapshot.name} of corpus {snapshot.corpus}, {command.steps:,} steps")
    show_uses(uses, console)
    for line in repeats(uses):
        console.print(line)


if __name__ == "__main__":
    run(main)
