"""Which files have been read whole on this machine and found to be what a record of their digests says.

A file is hashed when it is first used, and remembered by its path, size, time of change and inode: what it costs is
paid once per machine, not per run. The memory is a file of digests, one a line, in the folder of the local cache
(`storage.cache`); processes share it, for a line is appended in one write. Deleting it costs hashing again; one that
another account could have written is not believed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from schemas.digest import digest, file_sha256
from storage.cache import default_cache
from storage.private import is_private, open_private, private_folder


def cache_file() -> Path:
    """Where this user's machine remembers."""
    return default_cache().root / "verified-shards"


class Verified:
    """The files known to be sound."""

    def __init__(
        self, file: Path | None = None, *, record: str = "the snapshot", remedy: str = "restore it or build again"
    ) -> None:
        """Args: the memory; what holds the digests, and what to do about a file that differs, for messages."""
        self._file = file or cache_file()
        self._record, self._remedy = record, remedy
        self._known: set[str] = set()
        self._here: set[Path] = set()
        self._size = 0
        self._read()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            found = self._file.lstat()
            if found.st_size != self._size and is_private(found):
                self._known.update(self._file.read_text(errors="replace").split())
                self._size = found.st_size

    def is_known(self, path: Path, sha256: str) -> bool:
        """Whether the file at `path` was found to have this hash, and has not been touched since."""
        return path in self._here or self._key(path, sha256) in self._known

    def check(self, path: Path, sha256: str) -> None:
        """Hash the file at `path` unless that is known. May be called by several threads.

        Raises ValueError with one line if it has another hash.
        """
        if path in self._here:
            return
        key = self._key(path, sha256)
        if key not in self._known:
            self._read()  # another process may have been here
        if key not in self._known:
            found = self._hash(path)
            if self._key(path, sha256) != key:
                raise ValueError(f"{path}: cut or replaced while it was read; start again")
            if found != sha256:
                raise ValueError(f"{path}: its content is not what {self._record} says; {self._remedy}")
            # A cache that cannot be written costs time, and no more.
            with contextlib.suppress(OSError):
                private_folder(self._file.parent)
                if self._file.exists() and not is_private(self._file.lstat()):
                    self._file.unlink()
                with open_private(self._file, "a") as file:
                    file.write(f"{key}\n")
            self._known.add(key)
        self._here.add(path)

    def _key(self, path: Path, sha256: str) -> str:
        try:
            found = path.stat()
        except FileNotFoundError:
            raise self._missing(path) from None
        return digest([str(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino, sha256])

    def _hash(self, path: Path) -> str:
        try:
            return file_sha256(path)
        except FileNotFoundError:  # gone since its key was made
            raise self._missing(path) from None

    def _missing(self, path: Path) -> FileNotFoundError:
        return FileNotFoundError(f"{path}: missing, but {self._record} names it; {self._remedy}")
