"""Marks runs as Crashed whose process was killed.

Prefect learns of a run's end from the run itself, so one that is killed together with its worker (or was started from
a script) stays Running. Therefore each of our runs locks a file of its own, OUT/.runs/RUN_ID.*, before anything else.
The operating system frees the lock when the process ends, however it ends: a free lock means that the process is gone,
without any clock or heartbeat. Each build and each refresh looks at all locks of its folder of corpora when it starts,
and marks runs that are still Running there as Crashed. Other files in that folder are left alone.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections import defaultdict
from pathlib import Path
from typing import IO
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Crashed

from storage.cache import default_cache
from storage.places import is_url

RUNS = ".runs"
"""Folder of the locks, in the folder of corpora."""
UNFINISHED = (StateType.RUNNING, StateType.CANCELLING)

_held: list[IO[str]] = []
"""Locks of this process. Never closed: a run reports its end after its last line, and is alive until then."""


def claim(out: str | Path) -> None:
    """Lock the current run's file in the folder of corpora `out`, and mark runs there whose process is gone as Crashed.

    The first thing a flow does: a run that is killed before it leaves no lock.
    """
    context = FlowRunContext.get()
    assert context is not None, "claim() is for use inside a flow"
    assert context.flow_run is not None
    # Of corpora in an object store, the runs of this machine.
    folder = (default_cache().root if is_url(out) else Path(out)).resolve() / RUNS
    folder.mkdir(parents=True, exist_ok=True)
    _hold(folder, context.flow_run.id)
    with get_client(sync_client=True) as client:
        for run, files in _dead(folder).items():
            mark_as_crashed(client, run, files)


def _hold(folder: Path, run: UUID) -> None:
    """Lock a new file, then give it the name that others look for: no other run ever sees it unlocked."""
    name = f"{run}.{uuid.uuid4().hex}"
    file = (folder / f".{name}").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(file.name, folder / name)
    _held.append(file)


def _dead(folder: Path) -> dict[UUID, list[Path]]:
    """Runs no process of which lives, with their files. (A run that is started again has one file more.)"""
    files: dict[UUID, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        if run := _run_of(path):
            files[run].append(path)
    return {run: paths for run, paths in files.items() if all(_free(path) for path in paths)}


def _run_of(path: Path) -> UUID | None:
    """The run whose lock this file is: RUN_ID.32_HEX_DIGITS. None for a file that is none of ours."""
    run, _, rest = path.name.partition(".")
    try:
        uuid.UUID(hex=rest)
        return UUID(run)
    except ValueError:
        return None


def _free(path: Path) -> bool:
    """Whether no process holds this lock; False where it cannot be opened."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def mark_as_crashed(client: SyncPrefectClient, run: UUID, files: list[Path]) -> None:
    """Mark a run whose process is gone as Crashed if it does not say itself how it ended; remove its locks."""
    try:
        found = client.read_flow_run(run)
    except ObjectNotFound:
        return  # A run of another server; a run there will find the lock and tell it.
    if found.state is not None and found.state.type in UNFINISHED:
        message = "The process is gone: the lock that it held in its folder of corpora is free."
        client.set_flow_run_state(run, Crashed(message=message), force=True)
        get_run_logger().warning("Run %s: its process was killed; marked as Crashed.", found.name)
    for path in files:
        path.unlink(missing_ok=True)
