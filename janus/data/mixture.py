"""Which sources feed which task when: pools and phases of a snapshot (stage 2: ImageNet first, paper section 3.2)."""

from __future__ import annotations

from janus.data.config import DataOrder
from janus.data.plan import Phase
from janus.data.shards import Pool
from schemas.manifest import Snapshot, SnapshotShard
from schemas.sample import TASKS, Task
from storage.store import Place


def phases(corpus: Place, snapshot: Snapshot, config: DataOrder, steps: int) -> list[Phase[Pool]]:
    """One phase, or two where `config.first_group` feeds generation alone for the first part of `steps`.

    All sources of a task form one pool, so each is drawn in proportion to its rows and seen once per epoch.

    Raises ValueError with one line where a phase needs rows that the snapshot does not have.
    """
    tasks = [task for task, part in zip(TASKS, config.ratio, strict=True) if part]
    shards = {task: [shard for shard in snapshot.shards if shard.task == task] for task in tasks}
    if not config.first_group or "generation" not in tasks:
        return [Phase(0, None, {task: _pool(task, corpus, snapshot, shards[task]) for task in tasks})]

    others: dict[Task, Pool] = {
        task: _pool(task, corpus, snapshot, shards[task]) for task in tasks if task != "generation"
    }
    group = config.first_group
    switch = round(config.first_share * steps)
    first = [shard for shard in shards["generation"] if shard.group == group]
    rest = [shard for shard in shards["generation"] if shard.group != group]
    # A pool's name seeds its order: these keep the word they were first given (ORDER_VERSION).
    found = []
    if switch > 0:
        pool = _pool(f"generation of role {group!r}", corpus, snapshot, first, f"generation of group {group!r}")
        found.append(Phase(0, switch if switch < steps else None, {**others, "generation": pool}))
    if switch < steps:
        pool = _pool(
            f"generation of a role other than {group!r}",
            corpus,
            snapshot,
            rest,
            f"generation of a group other than {group!r}",
        )
        found.append(Phase(switch, None, {**others, "generation": pool}))
    return found


def _pool(name: str, corpus: Place, snapshot: Snapshot, shards: list[SnapshotShard], what: str = "") -> Pool:
    if not any(shard.rows for shard in shards):
        raise ValueError(
            f"the recipe trains on {what or name}, but snapshot {snapshot.name} of corpus {snapshot.corpus!r} has no "
            "such rows; change data.ratio or data.first_group, or add a source"
        )
    return Pool(name, corpus, shards)
