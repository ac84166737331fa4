"""A folder as a store: temporary file, fsync, rename, fsync of the folder (design D3)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from schemas.files import TEMPORARY, atomic_file, sync, write_file
from storage.hashing import HashingFile
from storage.store import Listed, Versioned, check_key, content_key


@dataclass(frozen=True)
class LocalStore:
    """A folder; made when something is first put into it."""

    root: Path

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self.root)

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.root

    def path(self, key: str) -> Path:
        """Where the value of `key` lies. Raises ValueError for a key that would leave the folder."""
        return self.root / check_key(key)

    def read(self, key: str) -> bytes:
        """See Store."""
        return self.path(key).read_bytes()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See Store."""
        with self.path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def read_versioned(self, key: str) -> Versioned | None:
        """See Store. The version is a digest of the value."""
        try:
            data = self.read(key)
        except FileNotFoundError:
            return None
        return Versioned(data, hashlib.sha256(data).hexdigest())

    def size(self, key: str) -> int | None:
        """See Store."""
        try:
            return self.path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """See Store."""
        write_file(self.path(key), data)

    def writing(self, key: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """See Store."""
        return atomic_file(self.path(key))

    @contextlib.contextmanager
    def writing_content(self, key: str) -> Iterator[HashingFile]:
        """See Store."""
        with self.writing(key) as file:
            yield HashingFile(file)

    def content_size(self, key: str, sha256: str) -> int | None:
        """See Store."""
        size = self.size(key)
        return self.size(content_key(key, sha256)) if size is None else size

    def delete_content(self, key: str, sha256: str) -> None:
        """See Store."""
        self.delete(key)
        self.delete(content_key(key, sha256))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Store. A link, unlike a rename, does not replace what is there."""
        path = self.path(key)
        whole = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-link")
        try:
            write_file(whole, data)
            os.link(whole, path)
        except FileExistsError:
            return False
        finally:
            whole.unlink(missing_ok=True)
        sync(path.parent)
        return True

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """See Store. Writers of other programs are not held off."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.read_versioned(key)
            if (found.version if found else None) != version:
                return False
            self.write(key, data)
            return True
        finally:
            os.close(lock)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """See Store."""
        top = self.path(prefix.strip("/")) if prefix.strip("/") else self.root
        for folder, _, names in os.walk(top):
            for name in names:
                if name.startswith(TEMPORARY):
                    continue
                path = Path(folder, name)
                try:
                    found = path.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                yield Listed(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def delete(self, key: str) -> None:
        """See Store."""
        self.path(key).unlink(missing_ok=True)

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """The file itself; see Store. In the copy of an object store it has its name there."""
        path = self.path(key)
        if not path.is_file():
            copied = self.path(content_key(key, sha256))
            if not copied.is_file():
                raise FileNotFoundError(f"{path}: no such file")
            return copied
        return path
