"""What the workers of one build tell each other about hosts, in small files: policies, and hosts to leave alone.

A folder that all workers see, emptied with the build's other scratch files. A note's file is named by the digest of
what it is about, is replaced at once (readers see all of it or none), and is believed for its lifetime. It is not
synced to disk: after a power cut the site is asked again. Where a note cannot be read or written, each worker asks for
itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Notes:
    """Notes in a folder, which is made when the first is written; kept nowhere if `folder` is None."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, kind: str, about: str) -> dict[str, Any] | None:
        """The note of a kind about something, None if there is none or it is too old."""
        if self._folder is None:
            return None
        try:
            note = json.loads(self._path(kind, about).read_bytes())
            return note["says"] if note["about"] == about and time.time() < note["until"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, kind: str, about: str, says: dict[str, Any], seconds: float) -> None:
        """Leave a note that is believed for so long."""
        if self._folder is None:
            return
        path = self._path(kind, about)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        note = json.dumps({"about": about, "until": time.time() + seconds, "says": says})
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(note)
            os.replace(temporary, path)

    @contextlib.contextmanager
    def turn(self, kind: str, about: str) -> Iterator[None]:
        """Hold the right to find out something, so that others wait for the note instead of asking too.

        The right ends with its holder, also one that is killed. A file system without locks gives it to everybody.
        """
        if self._folder is None:
            yield
            return
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                path = self._path(kind, about).with_suffix(".lock")
                path.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(path.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, kind: str, about: str) -> Path:
        assert self._folder is not None
        name = hashlib.sha256(f"{kind}\n{about}".encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.json"
