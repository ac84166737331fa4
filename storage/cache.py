"""A folder of bounded size that keeps whole files from an object store, named by their SHA-256 (design D15).

Shared by the processes of a machine (the ranks of a node, the workers of a build): each file is fetched by one of them
while the others wait for it. The least recently used files make room for new ones. A file is checked as it arrives and
appears under its name only when it is whole; one that was changed afterwards is found out and fetched again. Killed at
any moment, the folder stays usable: locks die with their process, and what was not finished is overwritten.

A file that is mapped into memory stays readable after it was evicted, so an eviction never hurts a reader; its space is
freed when the last reader closes it. No other account may write in the folder (`storage.private`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from storage.hashing import HashingFile
from storage.private import is_private, open_private, private_folder

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "JANUS_FORGE_CACHE"
"""Environment variable that names the folder of the default cache."""
SIZE_VARIABLE = "JANUS_FORGE_CACHE_GB"
"""Environment variable with the size of the default cache, in gigabytes (10^9 bytes)."""
DEFAULT_GB = 50.0
STRIPES = 256
"""Locks of a cache. Files whose hashes begin with the same byte wait for each other."""
_UNFINISHED = ".part"
_CHECKED = ".checked"
_BLOCK = 1 << 20


class _Entry(NamedTuple):
    used: int
    """Time of last use, ns."""
    size: int
    path: Path


@dataclass(frozen=True)
class FileCache:
    """The cache in a folder.

    Args:
        root: the folder; made when first used.
        limit: bytes that its files may take up. A single larger file is kept alone.
    """

    root: Path
    limit: int

    def room(self) -> Path:
        """The folder, for temporary files of writers."""
        return private_folder(self.root)

    def get(self, sha256: str, size: int, fetch: Callable[[BinaryIO], None]) -> Path:
        """Path of the file with this SHA-256 (hex), fetched if it is not here.

        Args:
            fetch: writes the bytes to a file, in order.

        Raises ValueError if `fetch` brings other bytes; whatever `fetch` raises.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"{sha256!r} is not a SHA-256 in hexadecimal")
        path = private_folder(self.room() / sha256[:2]) / sha256
        if self._usable(path, sha256, size):
            return path
        with self._locked(sha256[:2]):
            if self._usable(path, sha256, size):  # fetched by another process meanwhile
                return path
            path.unlink(missing_ok=True)
            self._make_room(size)
            self._fetch(path, sha256, size, fetch)
        return path

    def _fetch(self, path: Path, sha256: str, size: int, fetch: Callable[[BinaryIO], None]) -> None:
        part = path.with_name(path.name + _UNFINISHED)
        try:
            part.unlink(missing_ok=True)
            with open_private(part, "xb+") as file:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))  # a full disk shows here; counted by _make_room
                hashing = HashingFile(file)
                fetch(hashing)  # type: ignore[arg-type]
                if (hashing.bytes, hashing.sha256) != (size, sha256):
                    raise ValueError(
                        f"came as {hashing.bytes} bytes with SHA-256 {hashing.sha256[:12]}..., "
                        f"expected {size} and {sha256[:12]}...: it was changed or damaged; restore it or build again"
                    )
                file.truncate(size)
                file.flush()
                os.fsync(file.fileno())
            self._note(part, path)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _usable(self, path: Path, sha256: str, size: int) -> bool:
        """Whether the file is here and right: hashed once, then recognised by inode, time of change and size."""
        try:
            found = path.lstat()
            if found.st_size != size or not is_private(found):
                return False
            if not _same(found, self._noted(path)):
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                        logger.warning("%s: damaged in the cache; fetching it again", path)
                        return False
                self._note(path, path)
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))  # access time alone: when it was last used
        except FileNotFoundError:
            return False
        return True

    def _noted(self, path: Path) -> list[int]:
        note = path.with_name(path.name + _CHECKED)
        try:
            return json.loads(note.read_bytes()) if is_private(note.lstat()) else []
        except (FileNotFoundError, ValueError):
            return []

    def _note(self, file: Path, path: Path) -> None:
        """Remember that `file`, which is or becomes `path`, was checked."""
        found = file.stat()
        note = path.with_name(path.name + _CHECKED)
        temporary = note.with_name(f"{note.name}.{os.getpid()}{_UNFINISHED}")
        with open_private(temporary, "w") as file_of_note:
            file_of_note.write(json.dumps([found.st_ino, found.st_mtime_ns, found.st_size]))
        os.replace(temporary, note)

    @contextlib.contextmanager
    def _locked(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Hold a lock of the cache; yields whether it is held. It dies with the process."""
        folder = private_folder(self.root / "locks")
        with (folder / name).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _make_room(self, size: int) -> None:
        """Delete the least recently used files until `size` more bytes fit, unfinished ones of the dead first."""
        with self._locked("all"):
            entries: list[_Entry] = []
            total = 0
            for folder in self.root.glob("[0-9a-f][0-9a-f]"):
                for path in folder.iterdir():
                    with contextlib.suppress(FileNotFoundError):
                        found = path.stat()
                        if path.suffix == _UNFINISHED and self._abandoned(path):
                            continue
                        total += found.st_size
                        if not path.suffix:
                            entries.append(_Entry(found.st_atime_ns, found.st_size, path))
            for entry in sorted(entries):
                if total + size <= self.limit:
                    return
                # The note first: a file without one is hashed again, a note without a file is nothing.
                entry.path.with_name(entry.path.name + _CHECKED).unlink(missing_ok=True)
                entry.path.unlink(missing_ok=True)
                total -= entry.size
            if total + size > self.limit:
                logger.warning(
                    "%s: a file of %.1f MB does not fit into the cache of %.1f MB beside those being fetched",
                    self.root, size / 1e6, self.limit / 1e6,
                )  # fmt: skip

    def _abandoned(self, part: Path) -> bool:
        """Remove an unfinished file that no process is writing; whether it was one."""
        with self._locked(part.parent.name, wait=False) as held:
            if held:
                part.unlink(missing_ok=True)
            return held


def _same(found: os.stat_result, noted: list[int]) -> bool:
    return [found.st_ino, found.st_mtime_ns, found.st_size] == noted


def default_cache() -> FileCache:
    """The cache of this machine: JANUS_FORGE_CACHE (else ~/.cache/janus-forge), of JANUS_FORGE_CACHE_GB gigabytes.

    Raises ValueError if the size is not a number above 0.
    """
    text = os.environ.get(SIZE_VARIABLE, str(DEFAULT_GB))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not gigabytes > 0:
        raise ValueError(f"{SIZE_VARIABLE}={text}: expected the size of the cache in gigabytes, e.g. 200")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return FileCache(Path(os.environ.get(FOLDER_VARIABLE) or f"{home}/janus-forge"), int(gigabytes * 1e9))
