"""Saving and restoring a run: asynchronous, atomic, on any number of processes.

    checkpoints/step-001000/          committed: taken for a checkpoint
        *.safetensors                 shards of trained weights and optimiser state (torch.distributed.checkpoint)
        state.json                    step and identity of the run; written when all shards are on disk
    checkpoints/step-002000.saving/   being written, or left by a killed run: never read, replaced by the next save

Frozen weights are not in it: they are those of the model the run started from, whose digest is in the identity. There
is no random state either: data order and augmentation are functions of (seed, step) (design D8), and nothing else in a
step is random. Files are safetensors and JSON, so reading one never runs code.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn

from janus.train.optim import Optimizers
from janus.train.recipe import Checkpoint
from janus.train.world import World
from schemas.files import commit_folder

COMMITTED = re.compile(r"step-(\d{6,})")
STATE = "state.json"

# It warns at every save that there is no process group, and that is what a run of one process is.
warnings.filterwarnings("ignore", message="torch.distributed is disabled", module="torch.distributed.checkpoint")


def committed(folder: Path) -> list[tuple[int, Path]]:
    """Step and path of every whole checkpoint in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = ((COMMITTED.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match and (path / STATE).is_file())


def read_state(path: Path) -> dict[str, Any]:
    """What `state.json` of the checkpoint at `path` says."""
    return json.loads((path / STATE).read_text())


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
    state: dict[str, Any]


class Checkpointer:
    """Writes the checkpoints of one run."""

    def __init__(self, folder: Path, config: Checkpoint, world: World, identity: dict[str, Any]) -> None:
        self._folder, self._config, self._world, self._identity = folder, config, world, identity
        # Its own group: the saving thread's messages must not mix with the training loop's.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._running: _Save | None = None

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
        state = {"step": step, "world_size": self._world.size, "identity": self._identity}
        self._running = _Save(step, work, done, state)

    def poll(self) -> None:
        """Commit the running save if every rank has written its part. Never waits."""
        if self._running and self._running.done.done():
            self.wait()

    def wait(self) -> None:
        """Finish and commit the running save. Raises what went wrong in it: a failed save stops the run."""
        if self._running is None:
            return
        save, self._running = self._running, None
        save.done.result()
        # The coordinator's save ends after all ranks have reported theirs, so rank 0 may commit alone.
        if self._world.is_main:
            (save.work / STATE).write_text(json.dumps(save.state, indent=1))
            commit_folder(save.work, self._folder / f"step-{save.step:06d}")
            self._prune()

    def _prune(self) -> None:
        """Delete checkpoints that are neither milestones nor among the newest, and what killed runs left."""
        every = self._config.milestone_every
        passing = [path for step, path in committed(self._folder) if not (every and step % every == 0)]
        for path in passing[: -self._config.keep]:
            # Out of the namespace first: a half-deleted folder must not look like a checkpoint.
            gone = path.with_name(f"{path.name}.deleting")
            path.rename(gone)
            shutil.rmtree(gone)
        for left in self._folder.glob("step-*.*"):
            shutil.rmtree(left, ignore_errors=True)
