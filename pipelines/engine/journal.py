"""How workers report to the driver: each appends lines of JSON to a file of its own in the run folder.

This works on every engine whose workers share the corpus folder with the driver, and while `FnApiRunner.run()` blocks.
The driver reads what is new in a handful of files, however many shards there are. Lines of one shard, in order:

    {"begin": 3}
    {"shard": 3, "rows": 512}                                   now and then
    {"shard": 3, "rows": 2048, "value": ...}                    or failure, expected, retryable, details
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from schemas.digest import canonical_json
from storage.places import Place, as_store
from storage.store import Store

ASK_S = 2.0
"""Seconds between two looks into an object store."""


def append(place: Place, entry: dict[str, Any]) -> None:
    """Add a line to the journal of this thread. Nobody else writes to it, so lines are never mixed.

    Nothing can be added to what lies in an object store: each result is an object there, and what is only of passing
    interest is left out.
    """
    run = as_store(place)
    if run.folder is None:
        if "value" in entry or "failure" in entry:
            run.write(f"{uuid.uuid4().hex}.jsonl", canonical_json(entry) + b"\n")
        return
    name = f"{os.getpid()}-{threading.get_ident()}-{socket.gethostname()}.jsonl"
    with (run.folder / name).open("ab", buffering=0) as file:
        file.write(canonical_json(entry) + b"\n")


class Journals:
    """All journals of a run, each byte read once."""

    def __init__(self, run: Place) -> None:
        self._run = as_store(run)
        self._next = 0.0
        self._offsets: dict[str, int] = {}
        self._begun: dict[str, int] = {}
        self._rows_in_flight: dict[int, int] = {}
        self._rows_done = 0
        self.failed = 0
        """Shards that raised."""
        self.results: dict[int, dict[str, Any]] = {}
        """Last lines of finished shards, by index. Where an engine did a shard twice, the first counts."""

    def read(self, *, now: bool = True) -> None:
        """Take in what was appended since the last call; a line that is still being written waits for the next.

        Unless it is wanted `now`, an object store is not asked again at once.
        """
        if self._run.folder is None:
            if now or time.monotonic() >= self._next:
                self._read_objects(self._run)
                self._next = time.monotonic() + ASK_S
            return
        for entry in os.scandir(self._run.folder):
            if entry.name.endswith(".jsonl"):
                with open(entry.path, "rb") as file:
                    file.seek(self._offsets.get(entry.name, 0))
                    whole = file.read()
                whole = whole[: whole.rfind(b"\n") + 1]
                self._offsets[entry.name] = self._offsets.get(entry.name, 0) + len(whole)
                for line in whole.splitlines():
                    self._take(entry.name, json.loads(line))

    def _read_objects(self, run: Store) -> None:
        new = sorted(entry.key for entry in run.list() if entry.key not in self._offsets)
        with ThreadPoolExecutor(16) as threads:
            for key, data in zip(new, threads.map(run.read, new), strict=True):
                self._offsets[key] = len(data)
                self._take(key, json.loads(data))

    def _take(self, journal: str, line: dict[str, Any]) -> None:
        if "begin" in line:
            self._begun[journal] = line["begin"]
        elif line["shard"] in self.results:
            return
        elif "value" in line or "failure" in line:
            self.results[line["shard"]] = line
            self._rows_in_flight.pop(line["shard"], None)
            self._rows_done += line["rows"]
            self.failed += "failure" in line
        else:
            self._rows_in_flight[line["shard"]] = line["rows"]

    @property
    def rows(self) -> int:
        """Rows done, those of shards in flight included."""
        return self._rows_done + sum(self._rows_in_flight.values())

    def in_flight(self, pid: int) -> int | None:
        """Index of a shard that process `pid` has begun and not finished."""
        for journal, shard in self._begun.items():
            if journal.startswith(f"{pid}-") and shard not in self.results:
                return shard
        return None
