"""What can go wrong while a step runs, and whether trying again may help."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

NOT_RETRYABLE = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""A wrong spec, bad data, a file that is not there or not readable: the same again until someone changes it."""


@dataclass(frozen=True)
class Failure:
    """A shard that raised."""

    name: str
    message: str
    """One line, for users."""
    expected: bool
    """A ValueError or OSError: what data, disks and people cause. Anything else is a bug."""
    retryable: bool
    """See `is_retryable`."""
    details: str
    """Traceback."""


class DiskFull(ValueError):
    """The disk of the corpus has no space left."""


class WorkerLost(ValueError):
    """A worker process of the local engine ended or was stopped before its work was done. Worth another try."""

    def __init__(self, pid: int, what: str, where: str = "") -> None:
        self.pid, self.what = pid, what
        super().__init__(f"{where}worker process {pid} {what}")

    def at(self, step: str, shard: str | None) -> WorkerLost:
        """The same with the step and the shard that it worked on."""
        return WorkerLost(self.pid, self.what, f"{step}{f' {shard}' if shard else ''}: ")


class StepFailed(ValueError):
    """Some shards of a step failed; all others are committed. The message names each, one line each."""

    def __init__(self, step: str, failures: Sequence[Failure], total: int) -> None:
        self.failures = tuple(failures)
        lines = "\n".join(f"  {failure.name}: {failure.message}" for failure in failures)
        super().__init__(
            f"{step}: {len(failures)} of {total} shards failed, the others are done; "
            f"build again to retry only these:\n{lines}"
        )


def is_retryable(error: BaseException) -> bool:
    """Whether what raised `error` may pass by itself: a file system that hiccups, a GPU out of memory, a lost worker.

    A full disk does not. Of shards that failed, one that is retryable is enough.
    """
    if isinstance(error, StepFailed):
        return any(failure.retryable for failure in error.failures)
    if isinstance(error, WorkerLost):
        return True
    return not isinstance(error, NOT_RETRYABLE) and not (isinstance(error, OSError) and error.errno == errno.ENOSPC)
