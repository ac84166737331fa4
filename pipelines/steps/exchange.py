"""Rows that workers hand to each other through files: each writes one file, each reads its part of all of them.

What a shuffle does, but the rows stay on the disk (or in the object store) that the workers share: no process holds
more than what it writes or reads, least of all the one that started the build (design D16). It works on every engine.

    <name>/<writer>.rows     number of parts n, n + 1 offsets (int64 each), then the rows, part after part
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.store import Store

_OFFSET = np.dtype("<i8")


@dataclass(frozen=True)
class Exchange:
    """One table of rows of one type, written by several writers."""

    store: Store
    name: str
    """Folder in the store."""
    dtype: np.dtype

    def _key(self, writer: int) -> str:
        return f"{self.name}/{writer}.rows"

    def write(self, writer: int, rows: np.ndarray, part: npt.NDArray[np.int64], parts: int) -> None:
        """Hand over `rows`, each to its part in [0, parts). Writing again (a retry) replaces what was written."""
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(parts), side="right")
        head = np.concatenate([[parts, 0], ends]).astype(_OFFSET)
        with self.store.writing(self._key(writer)) as file:
            file.write(head.tobytes())
            file.write(np.ascontiguousarray(rows[order].astype(self.dtype, copy=False)).tobytes())

    def read(self, part: int, writers: int) -> np.ndarray:
        """Rows of one part from all of the `writers`, in their order.

        Raises FileNotFoundError or ValueError if a writer's file is missing or cut short.
        """
        found = [self.read_from(writer, part) for writer in range(writers)]
        return np.concatenate([np.empty(0, self.dtype), *found])

    def read_from(self, writer: int, part: int) -> np.ndarray:
        """Rows of one part from one writer. Raises as `read` does."""
        key = self._key(writer)
        place = _OFFSET.itemsize * (1 + part)
        parts, start, stop = 0, 0, 0
        head = np.frombuffer(self.store.read_range(key, 0, _OFFSET.itemsize), _OFFSET)
        bounds = np.frombuffer(self.store.read_range(key, place, 2 * _OFFSET.itemsize), _OFFSET)
        if len(head) == 1 and len(bounds) == 2:
            parts, start, stop = int(head[0]), int(bounds[0]), int(bounds[1])
        size = self.dtype.itemsize
        first = _OFFSET.itemsize * (2 + parts) + start * size
        data = self.store.read_range(key, first, (stop - start) * size) if stop > start else b""
        if not 0 <= part < parts or len(data) != (stop - start) * size:
            raise ValueError(f"{self.store.url}/{key}: cut short, or not of this build; build again")
        return np.frombuffer(data, self.dtype)
