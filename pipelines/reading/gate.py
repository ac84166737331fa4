"""The one way in: every file that a source opens goes through its gate, annotation and caption files included.

A file is opened only if, all links resolved, it lies in the source's folder or in one that the spec names
(`allow_links_to`), and only if it is a regular file: a pipe would hang the reader, a device could do anything. A
snapshot in the Hugging Face cache consists of links to `blobs/` beside it; those are followed, and no others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.limits import MAX_TEXT
from schemas.reasons import Outcome

_HUB_REPO = re.compile(r"(?:datasets|models|spaces)--[^/]+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}


class Gate:
    """Opens the files of one folder, and refuses all others."""

    def __init__(self, root: Path, allowed: Sequence[str | os.PathLike[str]] = ()) -> None:
        """`root`: the folder; it may itself be a link. `allowed`: other folders that links in it may lead to."""
        self.root = root
        self.real = os.path.realpath(root)
        self._allowed = (self.real, *(os.path.realpath(folder) for folder in allowed))
        self._blobs = _hub_blobs(self.real)

    def path(self, relative: str, where: str) -> Path:
        """`root / relative`, which need not exist. Raises RowError (`forbidden_path`) if that is not ours to open."""
        name = PurePosixPath(relative)
        if not relative or name.is_absolute() or ".." in name.parts or "\0" in relative:
            raise _forbidden(f"{where}: path {relative!r} must be relative and stay inside {self.root}")
        path = self.root / name
        self.resolve(path, where)
        return path

    def resolve(self, path: Path, where: str = "") -> str:
        """`path` with all links resolved. Raises RowError (`forbidden_path`) if it is not ours to open."""
        real = os.path.realpath(path)
        if not self.allows(real):
            raise _forbidden(
                f"{where or path}: {path} is a link that leaves {self.root}; copy the files, or name the folder that "
                "it may lead to in allow_links_to"
            )
        return real

    def allows(self, real: str) -> bool:
        """Whether a resolved path lies where files may be opened."""
        if any(real == folder or real.startswith(folder.rstrip("/") + "/") for folder in self._allowed):
            return True
        folder, _, name = real.rpartition("/")
        return self._blobs is not None and folder == self._blobs and _BLOB.fullmatch(name) is not None

    def open(self, path: Path, where: str = "") -> BinaryIO:
        """Open a regular file for reading.

        Raises RowError (`forbidden_path`) for one that is not ours or no regular file, FileNotFoundError where there is
        none, and SourceError where it may not be read.
        """
        real = self.resolve(path, where)
        try:
            _require_regular(os.stat(real).st_mode, where or str(path))
            # Looked at again once it is open, and never waited for: it may have been exchanged in between.
            descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno in _ABSENT:
                raise FileNotFoundError(f"{path}: no such file") from None
            raise SourceError(f"{where or path}: {path}: {error.strerror}") from None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            _require_regular(os.fstat(descriptor).st_mode, where or str(path))
            undo.pop_all()
        return os.fdopen(descriptor, "rb")

    def open_data(self, path: Path) -> BinaryIO:
        """`open` for a file that must be there. Raises SourceError where it is not."""
        try:
            return self.open(path)
        except FileNotFoundError:
            raise SourceError(f"{path}: no such file") from None

    def is_file(self, path: Path) -> bool:
        """Whether there is a regular file at `path`. Raises RowError (`forbidden_path`) where nothing may be opened."""
        return os.path.isfile(self.resolve(path))

    def relative(self, path: Path) -> str:
        """`path` as seen from the root, with slashes."""
        return path.relative_to(self.root).as_posix()

    def read_text(self, path: Path, limit: int = MAX_TEXT) -> str:
        """The whole of a text file.

        Raises RowError if it has more than `limit` bytes or is not UTF-8, SourceError where there is none.
        """
        with self.open_data(path) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise RowError(f"{path}: more than {limit:,} bytes of text", Outcome.ROW_TOO_LARGE)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RowError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def _forbidden(message: str) -> RowError:
    return RowError(message, Outcome.FORBIDDEN_PATH)


def _require_regular(mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            raise FileNotFoundError(f"{where}: a folder, not a file")
        kind = _KINDS.get(stat.S_IFMT(mode), "special file")
        raise _forbidden(f"{where}: a {kind}, not a regular file; remove it")


def _hub_blobs(real: str) -> str | None:
    """The folder of file contents, if `real` is in a snapshot of the Hugging Face cache.

    hub/datasets--owner--name/{blobs/<hash>, snapshots/<revision>/<path> -> ../../blobs/<hash>}
    """
    parts = Path(real).parts
    for index in range(1, len(parts) - 1):
        if parts[index] == "snapshots" and _HUB_REPO.fullmatch(parts[index - 1]):
            blobs = os.path.join(*parts[:index], "blobs")
            return blobs if os.path.isdir(blobs) else None
    return None
