"""Files and folders that are whole or absent: written under a temporary name, synced to disk, renamed (design D3).

A kill or a power cut at any moment leaves the old content or the new one under the final name, and at most something
whose name begins with TEMPORARY beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""Prefix of unfinished files and folders. Nothing reads them."""


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an exception. Makes the folder if absent.

    On an exception (a full disk among them) `path` is what it was and the temporary file is removed. Several processes
    may write the same path at once: the last one to finish wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes | str) -> None:
    """Write a whole file as `atomic_file` does; text becomes UTF-8."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_folder(folder: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder`, replacing what is there, when the block ends without an exception.

    On an exception `folder` is what it was. One writer at a time: what a killed one left is removed first.

    Args:
        folder: the final name; its parents are made if absent.
        durable: whether to sync every file. False is for many small files that are checked before they are used.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f"{TEMPORARY}{folder.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        commit_folder(staging, folder, durable=durable)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def commit_folder(staging: Path, folder: Path, *, durable: bool = True) -> None:
    """Give a finished folder its final name, beside it, replacing what is there. Arguments as of `atomic_folder`."""
    if durable:
        for path in [*staging.rglob("*"), staging]:
            sync(path)
    if folder.exists():
        replaced = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{folder.name}")
        folder.rename(replaced)
        staging.rename(folder)
        shutil.rmtree(replaced)
    else:
        staging.rename(folder)
    sync(folder.parent)
