"""A store: named byte strings, in a folder or at a URL (design D15).

Two implementations answer to one protocol. `LocalStore` is a folder: write to a temporary file, fsync, rename.
`ObjectStore` is a prefix of S3, Google Cloud Storage or Azure: nothing is ever renamed there, for a rename is a copy
and a delete; a whole object is put under its final key, and two kinds of conditional put decide every race:

* `put_if_absent`: of several writers of one key, exactly one writes it.
* `compare_and_swap`: replaces a value only if it is still the one that was read.

Keys are relative paths with "/" between their parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from storage.hashing import HashingFile

CONTENT_DIGITS = 12
_CONTENT = re.compile(r"(.*\.[0-9a-f]{12})\.[0-9a-f]{12}(\.[a-z]+)")


class StorageError(ValueError):
    """What keeps the store from being used until it is fixed: credentials, a missing bucket. One line."""


class StorageUnreachable(ConnectionError):
    """The store did not answer for as long as was waited. Trying again later may help."""


@dataclass(frozen=True)
class Listed:
    """One entry of a listing."""

    key: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Versioned:
    """A value, and what `compare_and_swap` recognises it by."""

    data: bytes
    version: str


class Store(Protocol):
    """Named byte strings. Every method raises StorageError or StorageUnreachable with one line."""

    @property
    def url(self) -> str:
        """What `open_store` takes: a path or a URL, without a slash at its end."""

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one of this machine."""

    def read(self, key: str) -> bytes:
        """The whole value. Raises FileNotFoundError."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end of the value. Raises FileNotFoundError."""

    def read_versioned(self, key: str) -> Versioned | None:
        """The value with its version, or None."""

    def size(self, key: str) -> int | None:
        """Bytes of the value, or None if there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Put `data` under `key`, over what is there: readers see the old value or the new one, whole."""

    def writing(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A file that becomes the value of `key` when the block ends without exception; otherwise nothing is left."""

    def writing_content(self, key: str) -> AbstractContextManager[HashingFile]:
        """As `writing`, for a value that `fetch` will ask for by its SHA-256.

        Of several writers of one key none replaces another's value: an object store keeps values of different content
        side by side (see `content_key`). In a folder the last one stays; its one writer holds the lock.
        """

    def content_size(self, key: str, sha256: str) -> int | None:
        """Bytes of the value with that SHA-256, or None if there is none. Its content is not read."""

    def delete_content(self, key: str, sha256: str) -> None:
        """Remove the value with that SHA-256; no error if there is none."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Put `data` under `key` unless it has a value; whether it was put. Of several writers one gets True.

        A writer whose answer was lost on its way may get False although the value is its own: compare.
        """

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Put `data` under `key` if its value still has `version` (None: if it has no value); whether it was put."""

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Everything below the folder `prefix`, in no particular order, without unfinished files."""

    def delete(self, key: str) -> None:
        """Remove a value; no error if there is none."""

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """Path of a local file with the value, whose SHA-256 (hex) and size are known; valid until evicted.

        Of a folder it is the file itself, unread. From elsewhere the bytes are checked as they arrive.

        Raises FileNotFoundError, and ValueError if the value is another one.
        """


def put_named(store: Store, key: str, data: bytes) -> None:
    """Put `data` under a key that says what belongs there: what stands there and differs is damaged, and replaced."""
    if not store.put_if_absent(key, data) and store.read(key) != data:
        store.write(key, data)


def content_key(key: str, sha256: str) -> str:
    """The key in an object store of the value of `key` with that SHA-256: "x.arrow" becomes "x.<12 digits>.arrow"."""
    path = PurePosixPath(key)
    return path.with_suffix(f".{sha256[:CONTENT_DIGITS]}{path.suffix}").as_posix()


def plain_key(key: str) -> str:
    """The key that `content_key` was given, or `key` itself if it is none of its results.

    What a corpus calls x.<key>.arrow is x.<key>.<content>.arrow in an object store.
    """
    found = _CONTENT.fullmatch(key)
    return f"{found[1]}{found[2]}" if found else key


def check_key(key: str) -> str:
    """`key` itself. Raises ValueError if it is empty, absolute, or would leave the store."""
    path = PurePosixPath(key)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in key:
        raise ValueError(f"{key!r} is not the name of anything in a store: expected a relative path without '..'")
    return key
