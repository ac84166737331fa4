"""Steps of a run that goes through its own rows a number of times."""

from __future__ import annotations

from janus.data.config import DataOrder
from janus.data.mixture import phases, plan_of, rows_of
from janus.data.replay import Replay, is_replayed
from schemas.manifest import Snapshot
from storage.places import Place
from storage.verified import Verified


def steps_for(
    corpus: Place,
    snapshot: Snapshot,
    config: DataOrder,
    epochs: float,
    *,
    verified: Verified | None = None,
    replay: Replay | None = None,
    held_out: bool = False,
) -> int:
    """The fewest steps, at least 1, that take `epochs` times as many documents of `corpus` as it has rows for the run.

    Replayed documents come on top.

    Raises ValueError with one line where what a step takes depends on the number of steps itself.
    """
    if config.first_group or config.max_epochs:
        name = "first_group" if config.first_group else "max_epochs"
        raise ValueError(f"data.{name} depends on the number of steps: give --steps in place of --epochs")
    planned = phases(corpus, snapshot, config, 1, verified, replay=replay, held_out=held_out)
    plan = plan_of(planned, config)
    pools = {pool.name: pool for phase in planned for pool in phase.pools.values()}
    own = {
        name: sum(share for source, share in pool.shares().items() if not is_replayed(source))
        for name, pool in pools.items()
    }
    wanted = epochs * sum(rows_of(planned, config)[0].values())

    def enough(steps: int) -> bool:
        return sum(count * own[name] for name, count in plan.drawn(steps).items()) >= wanted - 1e-6

    most = 1
    while not enough(most):
        most *= 2
    fewest = most // 2
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if enough(middle) else (middle, most)
    return most
