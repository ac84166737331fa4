"""A chain of commands whose results are kept as long as they hold.

A step's record names what the result was made from (command, code, outputs of the steps before) and what came out,
both by digest. A step is skipped only if both still hold. So a second run does nothing, a changed file redoes what
depends on it, a damaged output is made again, and an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from demo.dependencies import ROOT, Checkout
from demo.screen import Screen, last_line
from flows import children
from schemas.digest import digest, file_sha256
from schemas.files import write_file


class StepFailed(ValueError):
    """A command ended with an error."""


def tree_digest(path: Path) -> str:
    """Digest of a file, or of the names and contents of all files below a folder; hidden ones are left out."""
    if path.is_file():
        return file_sha256(path)
    names = sorted(
        Path(folder, name).relative_to(path).as_posix() for folder, _, files in os.walk(path) for name in files
    )
    visible = [name for name in names if not any(part.startswith((".", "__pycache__")) for part in Path(name).parts)]
    return digest([[name, file_sha256(path / name)] for name in visible])


@dataclass(frozen=True)
class Step:
    """One command."""

    name: str
    title: str
    module: str
    arguments: tuple[str, ...]
    folder: Path
    """What the step makes, and what is deleted before it is made anew."""
    data: tuple[str, ...] = ()
    """Files and folders of the checkout that the command reads. Its code is found by itself: `demo.dependencies`."""
    needs: tuple[str, ...] = ()
    """Steps whose output it reads."""
    resumes: bool = False
    """Whether the command goes on from a half-made result; otherwise that is deleted first."""
    fingerprint: Callable[[Path], str] = tree_digest
    """Names the content of `folder`. Raises ValueError or FileNotFoundError if that is not whole."""
    describe: Callable[[Path], str] = str
    """What came of it, in a few words, from `folder`."""

    @property
    def command(self) -> str:
        """As one would type it."""
        return " ".join(["python", "-m", self.module, *self.arguments])


@dataclass(frozen=True)
class Record:
    """What is remembered of a step that ended well."""

    order: int
    title: str
    command: str
    key: str
    output: str
    seconds: float
    detail: str


class Chain:
    """Runs steps in order, in the folder `run`: records in run/steps, what commands print in run/logs."""

    def __init__(self, run: Path, screen: Screen) -> None:
        self._records, self._logs, self._screen = run / "steps", run / "logs", screen
        self._checkout = Checkout()
        self._outputs: dict[str, str] = {}
        self._records.mkdir(parents=True, exist_ok=True)

    def do(self, step: Step, order: int) -> None:
        """Run `step` unless its record still holds. Raises StepFailed with the command's own last line."""
        log = self._logs / f"{step.name}.log"
        self._screen.begin(log)
        key = digest(
            {
                "command": step.command,
                "code": self._checkout.code_digest(step.module),
                "data": {name: tree_digest(ROOT / name) for name in step.data},
                "needs": {name: self._outputs[name] for name in step.needs},
            }
        )
        record = self._valid(step, key)
        reused = record is not None
        if record is None:
            record = self._make(step, order, key, log)
        self._outputs[step.name] = record.output
        self._screen.end(record.detail, record.seconds, reused=reused)

    def _valid(self, step: Step, key: str) -> Record | None:
        """The record of `step` if it was made from the same things and its output is what it was."""
        try:
            record = Record(**json.loads((self._records / f"{step.name}.json").read_text()))
            return record if record.key == key and record.output == step.fingerprint(step.folder) else None
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _make(self, step: Step, order: int, key: str, log: Path) -> Record:
        begun, done = self._records / f"{step.name}.begun", self._records / f"{step.name}.json"
        done.unlink(missing_ok=True)
        if not (step.resumes and begun.is_file() and begun.read_text() == key):
            _remove(step.folder)
            log.unlink(missing_ok=True)
        begun.write_text(key)
        start = time.monotonic()
        child = children.start(step.module, step.arguments, log=log)
        try:
            code = child.wait()
        finally:
            children.stop(child)
        if code:
            raise StepFailed(f"{step.title}: {last_line(log).removeprefix('error: ')} (all of its output: {log})")
        record = Record(
            order,
            step.title,
            step.command,
            key,
            step.fingerprint(step.folder),
            time.monotonic() - start,
            step.describe(step.folder),
        )
        write_file(done, json.dumps(asdict(record), indent=2))
        begun.unlink()
        return record


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
