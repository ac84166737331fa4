"""From the numbers of a step on the device to a line that people and programs read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from rich.markup import escape

from janus.packed import NUM_TASKS, TASK_IDS, PackedBatch
from janus.train.card import Card, first_loss_notes
from janus.train.display import Display
from janus.train.failures import is_disk_full, one_line
from janus.train.flops import Flops, count_tokens
from janus.train.guard import documents_of
from janus.train.loggers import Logger
from janus.train.recipe import Recipe
from janus.train.step import Accumulated
from janus.train.watch import mean_losses
from janus.train.world import World


@dataclass(frozen=True)
class Numbers:
    """The numbers of one step, on the host."""

    sums: list[list[float]]
    """Summed loss per micro-batch and task of this rank."""
    norms: dict[str, float]
    """Gradient norm before clipping, over all ranks: of "all", then by module."""


class Reading:
    """The numbers of one step, on their way from the device to the host without anybody waiting."""

    def __init__(
        self,
        step: int,
        batches: Sequence[PackedBatch],
        done: Accumulated,
        norms: torch.Tensor,
        lr: float,
        modules: Sequence[str],
    ) -> None:
        """Args: steps done after this one; what `accumulate` and `Clipper.clip` returned; the learning rate; the
        modules in the order of their norms.
        """
        self.step, self.done, self.lr, self._modules = step, done, lr, modules
        self.documents = documents_of(batches)
        self._shape = done.sums.shape
        self._event: torch.cuda.Event | None = None
        self._values = torch.cat([done.sums.flatten(), norms])
        if self._values.is_cuda:
            pinned = torch.empty(self._values.shape, pin_memory=True)
            self._values = pinned.copy_(self._values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Numbers:
        """The numbers; waits until they are here."""
        if self._event is not None:
            self._event.synchronize()
        sums = self._values[: self._shape.numel()].view(self._shape)
        norms = self._values[self._shape.numel() :].tolist()
        return Numbers(sums.tolist(), dict(zip(("all", *self._modules), norms, strict=True)))


class Logbook:
    """Writes a line for some of the steps."""

    def __init__(
        self,
        recipe: Recipe,
        world: World,
        card: Card,
        flops: Flops,
        *,
        peak: float | None,
        display: Display,
        loggers: dict[str, Logger],
    ) -> None:
        """Args: the device's peak FLOP/s, if known; loggers by name."""
        self._recipe, self._world, self._card, self._flops = recipe, world, card, flops
        self._peak, self._display, self._loggers = peak, display, loggers
        self._since = time.perf_counter()
        self._steps = self._tokens = 0
        self._work = 0.0

    def begin(self, batches: Sequence[PackedBatch]) -> None:
        """Count the work of a step, from the host's copy of its batches."""
        self._steps += 1
        self._tokens += sum(count_tokens(batch) for batch in batches)
        if self._peak is not None:
            self._work += self._flops.step(batches)

    def settle(self, reading: Reading, numbers: Numbers) -> None:
        """Take in a step. All ranks must call, in step order."""
        self._display.step(reading.step)
        if reading.step % self._recipe.watch.log_every and reading.step not in (1, self._recipe.steps):
            return
        totals = [sum(column) for column in zip(*numbers.sums, strict=True)]
        losses = mean_losses(self._world.sum(totals[:NUM_TASKS]), [float(c) for c in reading.done.global_tokens])
        tokens = {task: reading.done.global_tokens[number] for task, number in TASK_IDS.items() if task in losses}
        line = {
            "step": reading.step,
            "loss": losses,
            "tokens": tokens,
            "lr": reading.lr,
            "grad_norm": numbers.norms,
            "batch": {"samples": reading.done.samples, "fingerprint": reading.done.fingerprint},
            "speed": self._speed(reading.step),
        }
        self.write(line)
        self._display.line(line)
        if reading.step == 1:
            for note in first_loss_notes(self._card, losses):
                self.say(f"[yellow]note:[/] {note}")

    def _speed(self, step: int) -> dict[str, float]:
        """Since the last line; tokens are those of documents, of all ranks as if each had as many as this one."""
        seconds = time.perf_counter() - self._since
        steps = max(1, self._steps)
        speed = {
            "seconds_per_step": seconds / steps,
            "tokens_per_s": self._tokens * self._world.size / seconds,
            "seconds_left": (self._recipe.steps - step) * seconds / steps,
        }
        if self._peak is not None:
            speed["mfu"] = self._work / seconds / self._peak
        self._since = time.perf_counter()
        self._steps = self._tokens = 0
        self._work = 0.0
        return speed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count as training."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def write(self, line: dict[str, Any]) -> None:
        """Give a line to all loggers. One that fails, but for a full disk, is left out from then on: training goes on.

        Raises what a logger raised where the disk is full.
        """
        for name, logger in list(self._loggers.items()):
            try:
                logger.write(line)
            except Exception as error:
                if is_disk_full(error):
                    raise
                del self._loggers[name]
                self.say(f"[yellow]warning:[/] logger {name} failed and is off from here: {escape(one_line(error))}")

    def say(self, text: str) -> None:
        """A line for people only."""
        self._display.say(text)

    def close(self) -> None:
        """Close display and loggers."""
        self._display.close()
        for name, logger in self._loggers.items():
            try:
                logger.close()
            except Exception as error:
                self.say(f"[yellow]warning:[/] logger {name} failed at its end: {escape(one_line(error))}")
