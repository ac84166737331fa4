"""Shard steps that misbehave. In a module of their own: workers import them by name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Square:
    """Squares a number. Fails on 3 as a user error, on 5 as a bug, if told so."""

    failing: bool = False
    ready: bool = False

    def setup(self) -> None:
        self.ready = True

    def run(self, work: int, advance: Callable[[int], None]) -> dict[str, int]:
        assert self.ready
        advance(work)
        if self.failing and work == 3:
            raise ValueError("three is\nnot wanted")
        if self.failing and work == 5:
            raise ZeroDivisionError("five")
        return {"square": work * work, "pid": os.getpid()}


@dataclass
class NoModel:
    """Cannot be set up."""

    def setup(self) -> None:
        raise FileNotFoundError("model: no such file")

    def run(self, work: int, advance: Callable[[int], None]) -> None:
        raise AssertionError("never reached")


@dataclass
class FailsOnce:
    """Raises `error` in the shards whose number is in `failing`, the first time only."""

    error: Exception
    folder: Path
    failing: tuple[int, ...] = (0,)

    def setup(self) -> None:
        pass

    def run(self, work: int, advance: Callable[[int], None]) -> int:
        tried = self.folder / f"{work}.tried"
        if work in self.failing and not tried.exists():
            tried.touch()
            raise self.error
        return work


@dataclass
class Sleep:
    """Says which process it runs in, then sleeps."""

    folder: Path

    def setup(self) -> None:
        pass

    def run(self, work: int, advance: Callable[[int], None]) -> None:
        (self.folder / f"{os.getpid()}.pid").touch()
        time.sleep(600)
