"""The plan: which documents, in which packs, make up the global batch of any step (design D8).

step → window → slots → rows → packs, each a closed form or local to one window, so any step can be looked up without
the ones before it, on any number of ranks:

* The stream is an endless row of slots. A `Cycle` says which task a slot has and its position within that task;
  a keyed permutation of the task's pool says which row that is, and in which epoch.
* A window is a fixed number of slots for a fixed number of steps. Its documents are packed together, in stream order,
  and the packs dealt to its steps as evenly as can be. Nothing is carried from one window to the next.
* How many slots fill the packs of a window follows from the length distribution in the snapshot, with two standard
  deviations of room. A window that needs more packs after all gives them to its last step: nothing is ever dropped.

docs/data-order.md states what this guarantees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from janus.data.config import DataOrder
from janus.data.order import I64, Cycle, key64, shuffled, unit_interval
from janus.data.pack import pack_stream
from janus.data.shards import RowIndex
from schemas.sample import TASKS, Task

WINDOW_SLOTS = 32768
"""Documents planned together, about. More: fuller packs. Fewer: quicker start. 32,768 take about 0.2 s."""
TOKEN_CYCLE = 4096
"""Slots per cycle when the ratio counts tokens: shares are exact to half a slot, i.e. 0.12 % of a tenth."""
PROBE_SLOTS = 8192
"""Documents packed to learn how well this length distribution packs."""


class Rows(Protocol):
    """What planning asks of a table of rows (`janus.data.shards.Pool`, or row counts in a test)."""

    name: str

    def __len__(self) -> int:
        """Number of rows."""

    def stream(self, index: I64, order: DataOrder) -> tuple[I64, I64]:
        """Row and epoch of each index of the endless stream of documents: a closed form."""

    def look_up(self, rows: npt.NDArray[np.int64]) -> RowIndex:
        """Lengths and identities of `rows`."""

    def census(self) -> npt.NDArray[np.int64]:
        """Numbers of all rows, or of a large even sample: enough to know the length distribution."""

    def where(self, number: int) -> str:
        """Name of a row, for messages."""


@dataclass(frozen=True)
class Draw:
    """One document of a step: a row, and its augmentation."""

    task: Task
    pool: str
    """Name of the pool that `row` counts in."""
    row: int
    epoch: int
    """How often the row's pool, or its source where sources have weights, was gone through before."""
    length: int
    """Tokens."""
    short: bool
    """Use the first-sentence caption."""
    drop: bool
    """Replace the caption by padding."""


AnyRows = TypeVar("AnyRows", bound=Rows, covariant=True)


@dataclass(frozen=True)
class Phase(Generic[AnyRows]):
    """A stretch of steps with the same pools. Tasks with ratio 0 have no pool."""

    first_step: int
    num_steps: int | None
    """None: without end."""
    pools: Mapping[Task, AnyRows]


class Plan:
    """Global batches by step. The same object, with the same answers, on every rank.

    Args:
        phases: in order, the first at step 0, only the last without end.

    Raises:
        ValueError: a row is longer than a pack (found here, or when its window is planned).
    """

    def __init__(self, phases: Sequence[Phase[Rows]], config: DataOrder) -> None:
        self._phases: list[_PhasePlan] = []
        consumed: dict[str, int] = {}
        for phase in phases:
            planned = _PhasePlan(
                phase, config, {rows.name: consumed.get(rows.name, 0) for rows in phase.pools.values()}
            )
            self._phases.append(planned)
            if phase.num_steps is not None:
                for name, count in planned.drawn(phase.num_steps).items():
                    consumed[name] = consumed.get(name, 0) + count

    @property
    def forecasts(self) -> list[Forecast]:
        """What an average step of each phase holds."""
        return [phase.forecast for phase in self._phases]

    def drawn(self, steps: int) -> dict[str, int]:
        """Documents taken from each pool, by its name, in the first `steps` steps."""
        total: dict[str, int] = {}
        for number, phase in enumerate(self._phases):
            after = self._phases[number + 1].first_step if number + 1 < len(self._phases) else steps
            for name, count in phase.drawn(max(0, min(after, steps) - phase.first_step)).items():
                total[name] = total.get(name, 0) + count
        return total

    def step(self, step: int) -> list[list[Draw]]:
        """The packs of a global batch, each a list of documents in flat order. Mostly `config.sequences` or fewer."""
        phase = next(phase for phase in reversed(self._phases) if phase.first_step <= step)
        return phase.step(step - phase.first_step)


@dataclass(frozen=True)
class Forecast:
    """What an average step of a phase holds (for run cards)."""

    first_step: int
    window_steps: int
    """Steps planned together."""
    documents: dict[Task, float]
    tokens: dict[Task, float]


@dataclass(frozen=True)
class _Draws:
    """The documents of a window as columns, N each, in slot order. See `Draw`."""

    task: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    short: npt.NDArray[np.bool_]
    drop: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Window:
    """A planned window: documents, packs as slot numbers from the window's first, and which packs are which step's."""

    number: int
    draws: _Draws
    packs: list[list[int]]
    first_pack: list[int]
    """Steps + 1 offsets into `packs`."""


class _PhasePlan:
    """The plan of one phase; its steps, windows and slots count from 0 where the phase begins."""

    def __init__(self, phase: Phase[Rows], config: DataOrder, consumed: dict[str, int]) -> None:
        self.first_step = phase.first_step
        self._config = config
        self._num_steps = phase.num_steps
        self._pools = phase.pools
        self._consumed = consumed
        self._window: _Window | None = None
        census = {task: self._census(task, rows) for task, rows in phase.pools.items()}
        self._cycle = Cycle(_cycle_counts(config, census))
        share = {task: int(self._cycle.counts[TASKS.index(task)]) / self._cycle.length for task in census}
        moments = {task: _moments(lengths) for task, lengths in census.items()}
        mean = {task: task_mean for task, (task_mean, _) in moments.items()}
        mean_length = sum(share[task] * mean[task] for task in census)
        variance = sum(share[task] * task_variance for task, (_, task_variance) in moments.items())
        self._deviation = math.sqrt(variance) / mean_length
        self._slots_per_step = config.sequences * config.seq_len * self._probe_fill(census) / mean_length
        self._window_steps = max(1, math.ceil(WINDOW_SLOTS / self._slots_per_step))
        documents = self._slots(self._window_steps) / self._window_steps
        self.forecast = Forecast(
            phase.first_step,
            self._window_steps,
            documents={task: documents * share[task] for task in census},
            tokens={task: documents * share[task] * mean[task] for task in census},
        )

    def drawn(self, num_steps: int) -> dict[str, int]:
        """Rows taken from each pool by the first `num_steps` steps, where the phase ends after them."""
        full, rest = divmod(num_steps, self._window_steps)
        drawn = self._cycle.drawn(full * self._slots(self._window_steps) + self._slots(rest))
        return {rows.name: int(drawn[TASKS.index(task)]) for task, rows in self._pools.items()}

    def step(self, step: int) -> list[list[Draw]]:
        number, place = divmod(step, self._window_steps)
        if self._window is None or self._window.number != number:
            self._window = self._plan_window(number)
        window = self._window
        packs = window.packs[window.first_pack[place] : window.first_pack[place + 1]]
        return [[self._document(window.draws, slot) for slot in pack] for pack in packs]

    def _document(self, draws: _Draws, slot: int) -> Draw:
        task = TASKS[draws.task[slot]]
        return Draw(
            task=task,
            pool=self._pools[task].name,
            row=int(draws.row[slot]),
            epoch=int(draws.epoch[slot]),
            length=int(draws.length[slot]),
            short=bool(draws.short[slot]),
            drop=bool(draws.drop[slot]),
        )

    def _census(self, task: Task, rows: Rows) -> npt.NDArray[np.int64]:
        """Lengths as drawn in epoch 0, of all rows or a large sample."""
        numbers = rows.census()
        found = rows.look_up(numbers)
        self._check_lengths(rows, numbers, found.length)
        short, _ = augmentation(task, found, np.zeros(len(numbers), np.int64), self._config)
        return np.where(short, found.short_length, found.length).astype(np.int64)

    def _probe_fill(self, census: dict[Task, npt.NDArray[np.int64]]) -> float:
        """How full packs of this length distribution become, found by packing some."""
        task, index = self._cycle.slots(0, PROBE_SLOTS)
        lengths = np.empty(PROBE_SLOTS, np.int64)
        for name, known in census.items():
            here = task == TASKS.index(name)
            rows, _ = shuffled(index[here], len(known), key64("probe", name))
            lengths[here] = known[rows]
        packs = pack_stream(lengths.tolist(), self._config.seq_len)
        return float(lengths.sum()) / (len(packs) * self._config.seq_len)

    def _slots(self, steps: int) -> int:
        """Slots of a window of so many steps: what its packs hold, less two standard deviations; one per step."""
        expected = steps * self._slots_per_step
        return max(steps, int(expected - 2 * self._deviation * math.sqrt(expected)))

    def _plan_window(self, number: int) -> _Window:
        steps = self._window_steps
        if self._num_steps is not None:
            steps = min(steps, self._num_steps - number * steps)
        first_slot = number * self._slots(self._window_steps)
        draws = self._draw(first_slot, first_slot + self._slots(steps))
        packs = _at_least(steps, pack_stream(draws.length.tolist(), self._config.seq_len))
        if len(packs) <= steps * self._config.sequences:
            first_pack = [place * len(packs) // steps for place in range(steps + 1)]
        else:
            first_pack = [*range(0, steps * self._config.sequences, self._config.sequences), len(packs)]
        return _Window(number, draws, packs, first_pack)

    def _draw(self, start: int, stop: int) -> _Draws:
        """The documents of the slots [start, stop)."""
        tasks, index = self._cycle.slots(start, stop)
        columns: dict[str, npt.NDArray] = {
            name: np.empty(stop - start, np.int64) for name in ("row", "epoch", "length")
        }
        columns |= {name: np.empty(stop - start, np.bool_) for name in ("short", "drop")}
        for task, rows in self._pools.items():
            slots = np.flatnonzero(tasks == TASKS.index(task))
            row, epoch = rows.stream(index[slots] + self._consumed[rows.name], self._config)
            found = rows.look_up(row)
            short, drop = augmentation(task, found, epoch, self._config)
            length = np.where(short, found.short_length, found.length)
            self._check_lengths(rows, row, length)
            columns["row"][slots], columns["epoch"][slots], columns["length"][slots] = row, epoch, length
            columns["short"][slots], columns["drop"][slots] = short, drop
        return _Draws(task=tasks, **columns)

    def _check_lengths(self, rows: Rows, row: npt.NDArray[np.int64], length: npt.NDArray[np.int32]) -> None:
        wrong = np.flatnonzero((length < 1) | (length > self._config.seq_len))
        if wrong.size:
            raise ValueError(
                f"{rows.where(int(row[wrong[0]]))} has {length[wrong[0]]} tokens, data.seq_len is "
                f"{self._config.seq_len}; raise it, or build the corpus with a smaller tokenize.max_length"
            )


def _at_least(count: int, packs: list[list[int]]) -> list[list[int]]:
    """Split the packs with the most documents until there are `count`: no step may be empty."""
    while len(packs) < count:
        place = max(range(len(packs)), key=lambda number: len(packs[number]))
        half = len(packs[place]) // 2
        packs[place : place + 1] = [packs[place][:half], packs[place][half:]]
    return packs


def augmentation(
    task: Task, rows: RowIndex, epoch: npt.NDArray[np.int64], config: DataOrder
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Short caption and caption drop of each row: a pure function of (seed, uid, epoch)."""
    if task != "generation":
        no = np.zeros(len(epoch), np.bool_)
        return no, no
    epochs = epoch.astype(np.uint64)
    short = unit_interval(key64("short caption", config.seed), rows.identity, epochs) < config.short_caption
    drop = unit_interval(key64("caption drop", config.seed), rows.identity, epochs) < config.caption_drop
    return short, drop


def _moments(lengths: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean and variance, from exact sums: the last bit must not depend on how a machine's NumPy adds up."""
    count, total, squares = len(lengths), int(lengths.sum()), int((lengths * lengths).sum())
    return total / count, (squares * count - total * total) / (count * count)


def _cycle_counts(config: DataOrder, census: dict[Task, npt.NDArray[np.int64]]) -> list[int]:
    """Slots of each task per cycle. For a ratio of tokens: as near to ratio / mean length as whole numbers come."""
    if config.ratio_unit == "samples":
        divisor = math.gcd(*config.ratio)
        return [part // divisor for part in config.ratio]
    weights = [
        part / _moments(census[task])[0] if part else 0.0 for task, part in zip(TASKS, config.ratio, strict=True)
    ]
    return [max(1, round(TOKEN_CYCLE * weight / sum(weights))) if weight else 0 for weight in weights]
