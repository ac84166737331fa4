"""What has changed at a source since its rows were planned: rows that a newer version replaces, and rows that are gone.

A row is named by its key, and is what its uid says. A row of the corpus whose uid the source still has, under whatever
key, stands: lines that move change nothing. Of the others, one whose key now names a row that the corpus has under that
same key is `updated`; the rest are gone, and `on_removed` of the source says whether they go. What can no longer be
read, or has lost its local picture, replaces nothing: such a row counts as gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipelines.shardio import uid_array
from schemas.reasons import Drop, Outcome
from schemas.sample import Sample

Superseded = tuple[tuple[int, Drop | Outcome], ...]
"""Rows of a shard that are no longer wanted, each with its reason, by row. The outcome is OPTED_OUT (take_down.py)."""


class Changes:
    """The rows of a source that the corpus has, against one reading of the source. 48 bytes per row of the corpus."""

    def __init__(self, shards: Mapping[str, pa.Table]) -> None:
        """`shards` has uid and key of each rows shard, by path."""
        self._uids = {path: uid_array(table.column("uid")) for path, table in shards.items()}
        self._keys = {path: _hashes(table.column("key").to_pylist()) for path, table in shards.items()}
        self._known = np.unique(_joined(self._uids))
        self._names = np.unique(_joined(self._keys))
        self._pairs = np.unique(_pairs(_joined(self._uids), _joined(self._keys)))
        self._seen = np.zeros(len(self._known), dtype=bool)
        self._replaced = np.zeros(len(self._names), dtype=bool)

    def meet(self, samples: Sequence[Sample]) -> np.ndarray:
        """Take note of some rows of the source, and say which of them the corpus lacks: bool[N]."""
        uids = np.array([sample.uid for sample in samples], dtype="S16")
        keys = _hashes([sample.key for sample in samples])
        known, at = _find(self._known, uids)
        self._seen[at[known]] = True
        stored = ~known | _find(self._pairs, _pairs(uids, keys))[0]
        named, at = _find(self._names, keys)
        self._replaced[at[named & stored & np.array([_whole(sample) for sample in samples], dtype=bool)]] = True
        return ~known

    def superseded(self, drop_removed: bool) -> dict[str, Superseded]:
        """After the whole source was met: the rows to leave out, by path of the shard; only shards that have any."""
        found: dict[str, Superseded] = {}
        for path, uids in self._uids.items():
            gone = ~self._seen[_find(self._known, uids)[1]]
            updated = gone & self._replaced[_find(self._names, self._keys[path])[1]]
            rows = gone if drop_removed else updated
            if rows.any():
                found[path] = tuple(
                    (row, Drop.UPDATED if updated[row] else Drop.REMOVED) for row in np.flatnonzero(rows).tolist()
                )
        return found


def _whole(sample: Sample) -> bool:
    return sample.outcome == Outcome.OK and all(image.url is not None or image.sha256 for image in sample.images)


def _hashes(keys: Sequence[str]) -> np.ndarray:
    return np.array([hashlib.blake2b(key.encode(), digest_size=16).digest() for key in keys], dtype="S16")


def _pairs(uids: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """bytes32[N] of two bytes16[N]."""
    halves = np.stack([uids, keys], axis=1) if len(uids) else np.empty((0, 2), dtype="S16")
    return np.ascontiguousarray(halves).view("S32").reshape(-1)


def _joined(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(arrays.values())) if arrays else np.empty(0, dtype="S16")


def _find(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of `wanted` are in `ordered`, and where: bool[N], int64[N]."""
    if not len(ordered):
        return np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted), dtype=np.int64)
    at = np.searchsorted(ordered, wanted).clip(max=len(ordered) - 1)
    return ordered[at] == wanted, at
