"""A file that hashes and counts what is written to it."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO


class HashingFile:
    """Passes writes on to `file`; enough of a file for Arrow to write to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.bytes = 0
        """Written so far."""
        self.closed = False

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def write(self, data: Any) -> int:
        """Write bytes, or anything with their buffer protocol."""
        view = memoryview(data)
        self._file.write(view)
        self._sha256.update(view)
        self.bytes += view.nbytes
        return view.nbytes

    def writable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """No."""
        return False

    def seekable(self) -> bool:
        """No: what is hashed comes in order."""
        return False

    def tell(self) -> int:
        """Bytes written."""
        return self.bytes

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def close(self) -> None:
        """Say that no more comes. The file stays open: it is its owner's."""
        self.closed = True
