"""Failures that are no bug, as one line: a full disk, and the death of another process of the run."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from janus.cli import USER_ERRORS
from janus.train.world import World

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")
"""What errors of a full disk say where a library has turned them into its own kind."""
LOST_TEXTS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket closed", "NCCL")
"""What gloo and NCCL say when another process is gone."""


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk is what is wrong."""
    return (isinstance(error, OSError) and error.errno in FULL) or any(text in str(error) for text in FULL_TEXTS)


@contextmanager
def in_one_line(out: Path, world: World) -> Iterator[None]:
    """Turn a full disk, or the loss of another process, into a ValueError with one line. Others pass."""
    try:
        yield
    except USER_ERRORS:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise ValueError(
                f"{out}: the disk is full ({one_line(error)[:200]}); free space, and the same command continues"
            ) from None
        if world.size > 1 and isinstance(error, RuntimeError) and any(text in str(error) for text in LOST_TEXTS):
            raise ValueError(
                f"process {world.rank} of {world.size} lost another process of this run, whose own lines say why; "
                "the same command continues from the newest checkpoint"
            ) from None
        raise
