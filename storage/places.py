"""Where a corpus lies: a folder or a URL, and the store that answers for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from storage.store import StorageError, Store, check_key

SCHEMES = ("s3", "gs", "az", "memory")
EVICTIONS = 10
"""Times that a value is fetched again because others made the cache drop it before it was opened."""
T = TypeVar("T")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether `place` is a URL and not a path."""
    return isinstance(place, str) and _URL.match(place) is not None


def open_store(place: str | os.PathLike[str]) -> Store:
    """The store at a path, or at a URL: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.

    Raises ValueError for another kind of URL, and for a URL where the extra `storage` is not installed.
    """
    if not is_url(place):
        from storage.local import LocalStore

        return LocalStore(Path(place))
    from storage.objects import ObjectStore

    url = str(place).rstrip("/")
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ValueError(f"{url}: a corpus lies in a folder, or at an address that begins with s3://, gs:// or az://")
    return ObjectStore(url)


Place = Store | str | os.PathLike[str]
"""Where a corpus lies: a store, a path, or a URL."""


def as_store(place: Place) -> Store:
    """The store at `place`."""
    return open_store(place) if isinstance(place, str | os.PathLike) else place


def below(place: Place, folder: str) -> Store:
    """What lies below `folder` of a store, as a store."""
    store = as_store(place)
    if store.folder is not None:
        return open_store(store.folder / check_key(folder))
    return replace(store, url=f"{store.url}/{check_key(folder)}")  # type: ignore[type-var]


def waiting(place: Place) -> Store:
    """The store, which then waits for as long as it takes, and says so, where it would give up."""
    store = as_store(place)
    return store if store.folder is not None else replace(store, give_up_s=None)  # type: ignore[type-var]


def open_fetched(store: Store, key: str, sha256: str, size: int, open_file: Callable[[Path], T]) -> T:
    """`open_file(path)` of a fetched value (see `Store.fetch`), however often the cache evicts it in between."""
    for _ in range(EVICTIONS):
        path = store.fetch(key, sha256, size)
        try:
            return open_file(path)
        except FileNotFoundError:
            if store.folder is not None:
                raise
    raise StorageError(f"{store.url}/{key}: evicted from the local cache {EVICTIONS} times; make the cache larger")


def join(place: str | os.PathLike[str], name: str) -> str:
    """`name` below the path or URL `place`."""
    return f"{str(place).rstrip('/')}/{name}" if is_url(place) else str(Path(place) / name)
