"""Replay: documents of another corpus among those of a run's own, so that a fine-tuned model keeps what it knew.

A share of all documents comes from the replay corpus, whatever tasks the run's own corpus has. Task by task that makes
a pool of own and replayed sources with fixed shares (`janus.data.mixed_pool`), so any document is still a look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from janus.data.config import DataOrder
from schemas.manifest import Fingerprints, Snapshot, load_snapshot
from schemas.sample import TASKS, Task
from storage.places import Place, waiting

SUFFIX = " (replay)"
"""What the name of a source of the replay corpus ends with, beside the run's own sources."""
CYCLE = 4096
"""Slots of a cycle of tasks whose shares follow from rows or replay: exact to half a slot, 0.012 %."""


@dataclass(frozen=True)
class Replay:
    """A corpus that is replayed."""

    corpus: Place
    snapshot: Snapshot


def load_replay(config: DataOrder, own: Snapshot) -> Replay | None:
    """The corpus that `config` replays beside the snapshot `own`; None where it names none.

    Raises ValueError or FileNotFoundError with one line where there is none, or it does not go with `own`.
    """
    if not config.replay:
        return None
    try:
        store = waiting(config.replay)
        snapshot = load_snapshot(store, config.replay_snapshot or None)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"--data.replay {config.replay}: {error}") from None
    if (snapshot.corpus, snapshot.name) == (own.corpus, own.name):
        raise ValueError(f"--data.replay {config.replay}: this is the snapshot of --data; name another corpus")
    for field in Fingerprints.model_fields:
        if getattr(snapshot.fingerprints, field) != getattr(own.fingerprints, field):
            raise ValueError(
                f"--data.replay {config.replay}: its snapshot {snapshot.name} differs from that of --data in "
                f"{field}; build both with the same model and the same [tokenize] table"
            )
    return Replay(store, snapshot)


def is_replayed(source: str) -> bool:
    """Whether a pool's source is one of the replay corpus."""
    return source.endswith(SUFFIX)


@dataclass(frozen=True)
class TaskShare:
    """Share of one task of all documents of a run."""

    own: Fraction
    replayed: Fraction

    @property
    def whole(self) -> Fraction:
        """From either corpus."""
        return self.own + self.replayed


def task_shares(config: DataOrder, own: Mapping[Task, int], replayed: Mapping[Task, int]) -> dict[Task, TaskShare]:
    """The share of each task of all documents, own and replayed, which add up to 1.

    Args:
        own: rows of each task in the run's own corpus.
        replayed: the same of the replay corpus; empty without one.

    Raises ValueError with one line where a corpus has no row of the tasks that are asked of it.
    """
    counted = config.ratio_unit == "rows"
    parts = {task: part * own.get(task, 0) if counted else part for task, part in zip(TASKS, config.ratio, strict=True)}
    if not sum(parts.values()):
        raise ValueError(f"data.ratio {config.ratio} asks for tasks of which the corpus has no rows")
    old = {task: part if replayed.get(task) else 0 for task, part in zip(TASKS, config.replay_ratio, strict=True)}
    share = Fraction(str(config.replay_share)) if config.replay else Fraction(0)
    if share and not sum(old.values()):
        raise ValueError(
            f"--data.replay {config.replay}: it has no rows of the tasks of data.replay_ratio {config.replay_ratio}"
        )
    whole, whole_old = sum(parts.values()), sum(old.values()) or 1
    found = {
        task: TaskShare((1 - share) * Fraction(parts[task], whole), share * Fraction(old[task], whole_old))
        for task in TASKS
    }
    return {task: one for task, one in found.items() if one.whole}


def cycle_counts(shares: Mapping[Task, TaskShare]) -> tuple[int, int, int]:
    """Slots of each task in a cycle of about `CYCLE`: as near to the shares as whole numbers come, at least 1."""
    counts = [max(1, round(CYCLE * shares[task].whole)) if task in shares else 0 for task in TASKS]
    return (counts[0], counts[1], counts[2])
