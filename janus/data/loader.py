"""The loader: this rank's share of every global batch, prepared in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from janus.data.batch import assemble
from janus.data.config import DataConfig, DataOrder, TokenIds
from janus.data.documents import RowDocument, document
from janus.data.mixture import phases, plan_of, source_uses
from janus.data.order import ORDER_VERSION
from janus.data.plan import Draw, Forecast
from janus.data.replay import Replay
from janus.data.shards import Row, check_files
from janus.packed import PackedBatch
from schemas.digest import digest
from schemas.manifest import Snapshot
from schemas.sample import Task
from storage.places import Place, waiting
from storage.verified import Verified

FETCHES = 8
"""Shards fetched at a time, where the corpus lies in an object store."""


class Loader:
    """Iterates over the steps `start_step` … `steps` - 1; each yields this rank's micro-batches of the global batch.

    The global batch of a step is the same for every world size and micro-batch size (docs/data-order.md). Pack i goes
    to rank i mod world_size. All ranks get the same number of micro-batches of `data.micro_batch` packs each; where
    packs run out, sequences of padding follow.

    Args:
        corpus: its folder or address. Shards of one that lies elsewhere are fetched a few steps ahead.
        tokens: special tokens of the model's tokenizer.
        steps: steps of the whole stage (`data.first_share` is a share of them).
        start_step: first step to yield. Costs the same whatever it is.
        replay: the corpus that `data.replay` names (`janus.data.replay.load_replay`).
        held_out: load the rows that `data.hold_out` keeps from training, and not the others.
        pin_memory: put tensors in page-locked memory, for asynchronous copies to a GPU.

    Raises:
        FileNotFoundError, ValueError: a shard is missing, changed or damaged, or the snapshot lacks what the ratio asks
            for; one line. Damage inside a row shows when the row is reached.
    """

    def __init__(
        self,
        corpus: Place,
        snapshot: Snapshot,
        *,
        data: DataConfig,
        tokens: TokenIds,
        steps: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        replay: Replay | None = None,
        held_out: bool = False,
        pin_memory: bool = False,
    ) -> None:
        store = waiting(corpus)
        check_files(store, snapshot)
        if replay is not None:
            check_files(replay.corpus, replay.snapshot)
        self._made_with = snapshot.fingerprints
        self._data = data
        self._tokens = tokens
        self._rank, self._world_size = rank, world_size
        self._start_step, self._steps = start_step, steps
        self._pin_memory = pin_memory
        verified = Verified() if data.verify else None
        planned = phases(store, snapshot, data, steps, verified, replay=replay, held_out=held_out)
        self._pools = {pool.name: pool for phase in planned for pool in phase.pools.values()}
        self._plan = plan_of(planned, data)
        self.unverified_bytes = sum(pool.unverified_bytes() for pool in self._pools.values())
        """Bytes of shards that will be hashed when they are first used."""
        self.uses = source_uses(planned, self._plan, data, steps)
        """What the whole run takes from each source."""
        self.order = order_digest(data, snapshot, steps, replay.snapshot if replay else None)
        """Names the data order. A resumed run must have the one it began with."""

    @property
    def forecasts(self) -> list[Forecast]:
        """What an average step of each phase holds."""
        return self._plan.forecasts

    def __iter__(self) -> Iterator[list[PackedBatch]]:
        with (
            ThreadPoolExecutor(self._data.decode_threads, "decode") as decoders,
            ThreadPoolExecutor(1, "batch") as builder,
            ThreadPoolExecutor(FETCHES, "fetch") as fetchers,
        ):
            ready: deque[Future[list[PackedBatch]]] = deque()
            try:
                for step in range(self._start_step, self._steps):
                    ready.append(builder.submit(self._build, step, decoders, fetchers))
                    if len(ready) > self._data.prefetch:
                        yield ready.popleft().result()
                while ready:
                    yield ready.popleft().result()
            finally:
                builder.shutdown(wait=True, cancel_futures=True)

    def first_rows(self, task: Task, count: int) -> list[Row]:
        """The first rows of a task's stream, at most `count`, each once; none where the run has no such task."""
        pool = self._pools.get(task)
        if pool is None:
            return []
        numbers, _ = pool.stream(self._data)(np.arange(min(count, len(pool)), dtype=np.int64))
        for shard in pool.shards_of(numbers):
            pool.prepare(shard)
        return [pool.row(number) for number in numbers.tolist()]

    def _build(self, step: int, decoders: ThreadPoolExecutor, fetchers: ThreadPoolExecutor) -> list[PackedBatch]:
        batches = []
        dealt = deal(self._plan.step(step), self._data, self._rank, self._world_size)
        self._prepare([draw for packs in dealt for pack in packs for draw in pack], fetchers)
        for packs in dealt:
            documents = [[self._document(draw) for draw in pack] for pack in packs]
            batch = assemble(documents, self._data.seq_len, self._tokens, self._made_with, decoders)
            batches.append(batch.pin_memory() if self._pin_memory else batch)
        return batches

    def _prepare(self, draws: Sequence[Draw], fetchers: ThreadPoolExecutor) -> None:
        """Have the shards of a step's documents here and verified, several at a time, before a row of them is read."""
        rows: dict[str, list[int]] = {}
        for draw in draws:
            rows.setdefault(draw.pool, []).append(draw.row)
        wanted = [
            fetchers.submit(self._pools[name].prepare, shard)
            for name, numbers in rows.items()
            for shard in self._pools[name].shards_of(np.asarray(numbers))
        ]
        for one in wanted:
            one.result()

    def _document(self, draw: Draw) -> RowDocument:
        return document(self._pools[draw.pool].row(draw.row), draw, self._tokens, self._made_with)


def deal(packs: list[list[Draw]], data: DataConfig, rank: int, world_size: int) -> list[list[list[Draw]]]:
    """This rank's packs of a global batch, by micro-batch: as many micro-batches on every rank, all equally large."""
    per_round = world_size * data.micro_batch
    rounds = -(-max(len(packs), data.sequences) // per_round)
    mine = packs[rank::world_size]
    mine += [[]] * (rounds * data.micro_batch - len(mine))
    return [mine[start : start + data.micro_batch] for start in range(0, len(mine), data.micro_batch)]


def order_digest(data: DataOrder, snapshot: Snapshot, steps: int, replayed: Snapshot | None = None) -> str:
    """Digest of all that decides which documents a step trains on; world size and micro-batch size do not."""
    settings = data.order()
    del settings["first_share"]
    # Shares that keep the caps follow from what the whole run takes.
    capped = steps if data.max_epochs else None
    switch = round(data.first_share * steps) if data.first_group else None
    if replayed is not None:
        settings["replay"] = replayed.name
    return digest({"version": ORDER_VERSION, "snapshot": snapshot.name, "switch": switch, "capped": capped, **settings})
