"""Saving and restoring a run: asynchronous, atomic, on any number of processes.

    checkpoints/step-001000/          committed: taken for a checkpoint
        *.safetensors                 shards of trained weights and optimiser state (torch.distributed.checkpoint)
        state.json                    step and identity of the run, size and SHA-256 of every shard, a digest of itself;
                                      written when all shards are on disk
    checkpoints/step-002000.saving/   being written, or left by a killed run: never read, replaced by the next save
    checkpoints/step-001000.damaged/  found not to be what was written, when a run was to continue

Frozen weights are not in it: they are those of the model the run started from, whose digest is in the identity. There
is no random state either: data order and augmentation are functions of (seed, step) (design D8), and nothing else in a
step is random. Files are safetensors and JSON, so reading one never runs code.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn

from janus.model.checkpoints.tensors import read_json
from janus.train.failures import one_line
from janus.train.optim import Optimizers
from janus.train.recipe import Checkpoint
from janus.train.world import World
from schemas.digest import check_sealed, file_sha256, sealed
from schemas.files import TEMPORARY, commit_folder, sync, write_file

COMMITTED = re.compile(r"step-(\d{6,})")
STATE = "state.json"
HASHING_THREADS = 8

# It warns at every save that there is no process group, and that is what a run of one process is.
warnings.filterwarnings("ignore", message="torch.distributed is disabled", module="torch.distributed.checkpoint")


def committed(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every whole checkpoint in `folder`, oldest first."""
    return [(step, path) for step, path in _named(folder) if (path / STATE).is_file()]


def _named(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of what is named as a checkpoint. It was whole when it got that name."""
    if not folder.is_dir():
        return []
    found = ((COMMITTED.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def read_state(path: Path) -> dict[str, Any]:
    """What `state.json` of the checkpoint at `path` says.

    Raises ValueError with one line that names the file if it is not what was written.
    """
    state = read_json(path / STATE)
    check_sealed(state, path / STATE)
    return state


def check_files(path: Path) -> dict[str, Any]:
    """Hold every file of the checkpoint at `path` against its size and SHA-256; returns its state.

    Raises ValueError with one line that names the first file that is not what was written.
    """
    state = read_state(path)
    for name, expected in state["files"].items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{file}: missing")
        if file.stat().st_size != expected["bytes"]:
            raise ValueError(f"{file}: damaged: {file.stat().st_size} bytes where {expected['bytes']} were written")
    if unknown := {file.name for file in path.iterdir()} - {STATE, *state["files"]}:
        raise ValueError(f"{path / min(unknown)}: not part of the checkpoint")
    for name, found in _hashes(path, state["files"]).items():
        if found != state["files"][name]["sha256"]:
            raise ValueError(f"{path / name}: damaged: its content is not what was written")
    return state


def newest_sound(folder: Path, *, set_aside: bool = False) -> tuple[tuple[int, Path] | None, list[str]]:
    """The newest checkpoint in `folder` whose files are what was written, and a line for each damaged newer one.

    Args:
        set_aside: give the damaged ones another name, `step-NNNNNN.damaged`.

    Raises ValueError with one line if there are checkpoints but all are damaged.
    """
    found, notes = _named(folder), []
    for step, path in reversed(found):
        try:
            check_files(path)
        except (ValueError, FileNotFoundError) as error:
            notes.append(str(error))
            continue
        if set_aside:
            for _, damaged in found[len(found) - len(notes) :]:
                damaged.rename(damaged.with_name(f"{damaged.name}.damaged"))
        return (step, path), [f"{note}; going back to step {step}" for note in notes]
    if notes:
        raise ValueError(f"{notes[0]}; no checkpoint in {folder} is whole: move the folder away to begin anew")
    return None, []


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of some files of a folder, several at a time (the hash lets other threads run)."""
    names = sorted(names)
    with ThreadPoolExecutor(HASHING_THREADS, "hash") as pool:
        return dict(zip(names, pool.map(file_sha256, (folder / name for name in names)), strict=True))


def tensors(
    parameters: dict[str, nn.Parameter], optimizers: Optimizers | None, *, step: int
) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by name: the ones in use, so that loading fills them in place."""
    saved: dict[str, torch.Tensor] = {f"model.{name}": parameter.detach() for name, parameter in parameters.items()}
    if optimizers is not None:
        saved |= {f"optimizer.{name}": tensor for name, tensor in optimizers.state(step=step).items()}
    return saved


def load(path: Path, target: dict[str, torch.Tensor], *, group: dist.ProcessGroup | None) -> None:
    """Fill `target` from the checkpoint at `path`, whatever number of processes wrote it.

    Raises ValueError with one line if the checkpoint lacks a tensor or has it in another shape.
    """
    reader = dcp.HuggingFaceStorageReader(str(path))
    try:
        dcp.load(target, storage_reader=reader, process_group=group, no_dist=group is None)
    except (dcp.api.CheckpointException, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: does not fit this model and recipe: {first}") from None


@dataclass
class _Save:
    step: int
    work: Path
    done: Future[Any]


class Checkpointer:
    """Writes the checkpoints of one run."""

    def __init__(
        self, folder: Path, config: Checkpoint, world: World, *, snapshot: str, identity: dict[str, Any]
    ) -> None:
        """Args: name of the snapshot trained on; what a run must share to continue (`janus.train.record.identity`)."""
        self._folder, self._config, self._world = folder, config, world
        self._about = {"snapshot": snapshot, "identity": identity, "world_size": world.size}
        # Its own group: the saving thread's messages must not mix with the training loop's.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._running: _Save | None = None
        self._finisher = ThreadPoolExecutor(1, "checkpoint")

    def due(self, step: int) -> bool:
        """Whether to save after `step` steps."""
        wanted = (self._config.every, self._config.milestone_every)
        return any(every and step % every == 0 for every in wanted)

    def save(self, step: int, saved: dict[str, torch.Tensor]) -> None:
        """Copy `saved` aside and write it in the background; waits only for a save still running."""
        self.wait()
        work = self._folder / f"step-{step:06d}.saving"
        if self._world.is_main:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
        self._world.barrier()
        writer = dcp.HuggingFaceStorageWriter(str(work), save_distributed=True)
        done = dcp.async_save(saved, storage_writer=writer, process_group=self._group, no_dist=self._group is None)
        if self._world.is_main:
            done = self._finisher.submit(self._finish, step, work, done)
        self._running = _Save(step, work, done)

    def _finish(self, step: int, work: Path, done: Future[Any]) -> None:
        """In the background: wait for the files and describe them in `state.json`.

        The coordinator's save ends after all ranks have reported theirs, so rank 0 may do this alone.
        """
        done.result()
        names = [file.name for file in work.iterdir()]
        for name in names:
            sync(work / name)
        files = {
            name: {"bytes": (work / name).stat().st_size, "sha256": found}
            for name, found in _hashes(work, names).items()
        }
        state = {"step": step, **self._about, "files": files}
        write_file(work / STATE, json.dumps(sealed(state), indent=1))

    def poll(self) -> None:
        """Commit the running save if every rank has written its part. Never waits."""
        if self._running and self._running.done.done():
            self.wait()

    def wait(self) -> None:
        """Finish and commit the running save.

        Raises ValueError with one line of what went wrong in it: a failed save stops the run.
        """
        if self._running is None:
            return
        save, self._running = self._running, None
        try:
            save.done.result()
            if self._world.is_main:
                commit_folder(save.work, self._folder / f"step-{save.step:06d}")
                self._prune()
        except (dcp.api.CheckpointException, OSError) as error:
            # A failed save fails on all processes: one speaks.
            if not self._world.is_main:
                raise SystemExit(1) from None
            shutil.rmtree(save.work, ignore_errors=True)
            whole = committed(self._folder)
            newest = f"the newest whole one is of step {whole[-1][0]}" if whole else "there is none yet"
            raise ValueError(
                f"{self._folder}: cannot write the checkpoint of step {save.step}: {_cause(error)}; {newest}"
            ) from None

    def _prune(self) -> None:
        """Delete checkpoints that are neither milestones nor among the newest, and what killed runs left."""
        every = self._config.milestone_every
        passing = [path for step, path in committed(self._folder) if not (every and step % every == 0)]
        for path in passing[: -self._config.keep]:
            # Out of the namespace first: a half-deleted folder must not look like a checkpoint.
            gone = path.with_name(f"{path.name}.deleting")
            path.rename(gone)
            shutil.rmtree(gone)
        for pattern in ("step-*.saving", "step-*.deleting", f"{TEMPORARY}*"):
            for left in self._folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)


def _cause(error: BaseException) -> str:
    """What lies under an error of torch's saving, which wraps those of all ranks and their tracebacks."""
    if isinstance(error, dcp.api.CheckpointException):
        return _cause(next(iter(error.failures.values()))[0])
    return f"{error.strerror} ({error.filename})" if isinstance(error, OSError) and error.filename else one_line(error)
