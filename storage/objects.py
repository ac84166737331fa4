"""S3, Google Cloud Storage and Azure as a store, through obstore (design D15).

obstore's own retries are off but for the parts of one upload: all waiting is done, and told, in `storage.retry`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from storage.cache import FileCache, default_cache
from storage.hashing import HashingFile
from storage.retry import GIVE_UP_S, retrying
from storage.store import Listed, StorageError, Versioned, check_key, content_key

PART = 16 << 20
"""Bytes of one request of a large upload or download: what is sent again after a failure."""
PARTS_AT_A_TIME = 4
REQUEST_S = 60
"""A request that takes longer has hung: a part comes in a second at 16 MB/s."""


@lru_cache(64)
def _connect(url: str, process: int) -> Any:
    """The connection of this process to a URL: what a fork or a pickle brings along is not used."""
    try:
        import obstore.store
    except ImportError:
        raise ValueError(f"{url}: reading object storage needs a package: pip install 'janus-forge[storage]'") from None
    if url.startswith("memory:"):
        return obstore.store.MemoryStore()
    options: dict[str, Any] = {"timeout": timedelta(seconds=REQUEST_S), "connect_timeout": timedelta(seconds=10)}
    settings: dict[str, Any] = {}
    if url.startswith("s3:"):
        # Whoever names an endpoint without TLS means it.
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        options["allow_http"] = endpoint.startswith("http://")
        if endpoint:
            settings["endpoint"] = endpoint
        if not os.environ.get("AWS_ACCESS_KEY_ID") and (provider := _profile()) is not None:
            settings["credential_provider"] = provider
    retries = {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=10),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    try:
        connect: Any = obstore.store.from_url
        return connect(url, client_options=options, retry_config=retries, **settings)
    except Exception as error:
        raise StorageError(f"{url}: {' '.join(str(error).split())}") from None


def _profile() -> Any:
    """Credentials of ~/.aws, which obstore does not read itself, where boto3 is installed and finds any."""
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    session = boto3.Session()
    return Boto3CredentialProvider(session) if session.get_credentials() is not None else None


@dataclass(frozen=True)
class ObjectStore:
    """The keys below a URL. Small enough to be pickled to a worker; connects when first used."""

    url: str
    give_up_s: float | None = GIVE_UP_S
    """Time without a good answer after which a call raises StorageUnreachable; None waits for ever."""
    cache: FileCache | None = None
    """Where fetched values are kept; None: the default one (`storage.cache.default_cache`)."""

    @property
    def folder(self) -> None:
        """None: it is not on this machine."""
        return None

    @cached_property
    def _kept(self) -> FileCache:
        return self.cache or default_cache()

    @property
    def _store(self) -> Any:
        return _connect(self.url, os.getpid())

    def _try(self, what: str, call: Any, *arguments: Any, **settings: Any) -> Any:
        return retrying(self.url, what, partial(call, self._store, *arguments, **settings), self.give_up_s)

    def read(self, key: str) -> bytes:
        """See Store."""
        import obstore

        try:
            return self._try(f"read {key}", lambda store: bytes(obstore.get(store, check_key(key)).bytes()))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}/{key}: no such object") from None

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See Store."""
        import obstore

        try:
            found = self._try(f"read {key}", obstore.get_range, check_key(key), start=start, length=length)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}/{key}: no such object") from None
        return bytes(found)

    def read_versioned(self, key: str) -> Versioned | None:
        """See Store. The version is the ETag (S3, Azure) and the generation (Google)."""
        import obstore

        def get(store: Any) -> Versioned:
            found = obstore.get(store, check_key(key))
            version = {name: found.meta[name] for name in ("e_tag", "version") if found.meta[name] is not None}
            return Versioned(bytes(found.bytes()), json.dumps(version))

        try:
            return self._try(f"read {key}", get)
        except FileNotFoundError:
            return None

    def size(self, key: str) -> int | None:
        """See Store."""
        import obstore

        try:
            return int(self._try(f"look at {key}", obstore.head, check_key(key))["size"])
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes) -> None:
        """See Store."""
        import obstore

        self._try(f"write {key}", obstore.put, check_key(key), data)

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """See Store. Written to a local file without a name first: an upload begins when the value is whole."""
        check_key(key)
        with tempfile.TemporaryFile(dir=self._kept.room()) as file:
            yield file  # type: ignore[misc]
            self._upload(key, file)

    @contextlib.contextmanager
    def writing_content(self, key: str) -> Iterator[HashingFile]:
        """See Store."""
        check_key(key)
        with tempfile.TemporaryFile(dir=self._kept.room()) as file:
            hashing = HashingFile(file)  # type: ignore[arg-type]
            yield hashing
            self._upload(content_key(key, hashing.sha256), file)

    def _upload(self, key: str, file: Any) -> None:
        import obstore

        file.flush()

        def upload(store: Any) -> None:
            file.seek(0)
            obstore.put(store, key, file, chunk_size=PART, max_concurrency=PARTS_AT_A_TIME)

        self._try(f"write {key}", upload)

    def content_size(self, key: str, sha256: str) -> int | None:
        """See Store."""
        size = self.size(content_key(key, sha256))
        return self.size(key) if size is None else size

    def delete_content(self, key: str, sha256: str) -> None:
        """See Store."""
        self.delete(content_key(key, sha256))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Store."""
        return self._conditional(key, data, "create")

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """See Store."""
        return self._conditional(key, data, "create" if version is None else json.loads(version))

    def _conditional(self, key: str, data: bytes, mode: Any) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._try(f"write {key}", obstore.put, check_key(key), data, mode=mode)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            # FileNotFoundError: what was to be replaced is gone.
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """See Store."""
        import obstore

        def listing(store: Any) -> list[Any]:
            return [entry for page in obstore.list(store, prefix.strip("/") or None, chunk_size=1000) for entry in page]

        for entry in self._try(f"list {prefix or 'everything'}", listing):
            yield Listed(entry["path"], int(entry["size"]), entry["last_modified"].timestamp())

    def delete(self, key: str) -> None:
        """See Store."""
        import obstore

        with contextlib.suppress(FileNotFoundError):
            self._try(f"delete {key}", obstore.delete, check_key(key))

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """See Store. Kept in the local cache. In the copy of a folder the value lies under its plain key."""

        def download(file: BinaryIO) -> None:
            named = content_key(key, sha256)
            try:
                download_of(named, file)
            except FileNotFoundError:
                download_of(key, file)

        def download_of(name: str, file: BinaryIO) -> None:
            starts = range(0, size, PART)
            with ThreadPoolExecutor(PARTS_AT_A_TIME) as parts:
                # In groups: a whole shard of pending parts would be held in memory.
                for first in range(0, len(starts), PARTS_AT_A_TIME):
                    group = starts[first : first + PARTS_AT_A_TIME]
                    for data in parts.map(lambda start: self.read_range(name, start, min(PART, size - start)), group):
                        file.write(data)

        try:
            return self._kept.get(sha256, size, download)
        except ValueError as error:
            raise ValueError(f"{self.url}/{key}: {error}") from None
