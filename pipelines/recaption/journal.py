"""Answers that were had for a shard which is not finished: one JSON line each, on disk before the next is counted.

So a build that is killed asks for no picture twice. The file goes when its shard is committed.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

from pipelines.captioners import Answer
from schemas.digest import digest
from storage.cache import default_cache
from storage.store import Store

FOLDER = "answers"
"""In the corpus folder."""


def journal_path(corpus: Store, shard: str) -> Path:
    """Where the answers for the shard file `shard` are kept: in the corpus, or for one at a URL on this machine."""
    return (_folder(corpus) / shard).with_suffix(".jsonl")


def forget(corpus: Store) -> None:
    """Delete all answers for shards that are not finished; of a corpus at a URL, those on this machine."""
    shutil.rmtree(_folder(corpus), ignore_errors=True)


def _folder(corpus: Store) -> Path:
    if corpus.folder is not None:
        return corpus.folder / FOLDER
    return default_cache().root / FOLDER / digest(corpus.url)


class Journal:
    """The answers for one shard. `add` may be called by several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def read(self) -> dict[bytes, Answer]:
        """The answers by uid. A last line that a kill cut short is none."""
        found = {}
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        for line in lines[:-1]:
            try:
                row = json.loads(line)
                found[bytes.fromhex(row["uid"])] = Answer(row["text"], row["truncated"])
            except (ValueError, KeyError, TypeError):
                continue  # the remains of a line, ended by `add` of the next build
        return found

    def add(self, uid: bytes, answer: Answer) -> None:
        """Keep an answer; it is on disk when this returns."""
        line = json.dumps({"uid": uid.hex(), "text": answer.text, "truncated": answer.truncated})
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # A line that a kill cut short must not run into this one.
                start = b"" if file.tell() == 0 or self._ended() else b"\n"
                file.write(start + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def _ended(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def remove(self) -> None:
        """Forget them."""
        self._path.unlink(missing_ok=True)
