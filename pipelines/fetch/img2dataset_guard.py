"""What must hold in every process of img2dataset, done on import if the environment marks it as one.

- It ends when the build ends (its own parent may be gone before this is read), and cannot take more than its share of
  memory.
- Every connection, also one after a redirect, goes to a public address or to an override (as pipelines/fetch/address.py
  has it): names are resolved here, and what is checked is what is connected to.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from typing import Any

from pipelines.fetch.address import is_public
from pipelines.lifeline import Lifeline

RULES = "JANUS_FORGE_FETCH"
"""Environment variable that marks the processes to guard: JSON with resolve, memory (bytes) and build (process)."""
FORBIDDEN = "forbidden_address"
"""How a refused connection reads in img2dataset's error messages."""


def guard_connections(overrides: dict[str, str]) -> None:
    """Let this process connect to public addresses and overrides only."""
    places = {name.lower(): place for name, place in overrides.items()}
    resolve = socket.getaddrinfo

    def checked(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        place = places.get(f"{host}:{port}".lower())
        if place is not None:
            address, _, number = place.rpartition(":")
            return resolve(address.strip("[]"), int(number), *args, **kwargs)
        found = resolve(host, port, *args, **kwargs)
        if not all(is_public(str(entry[4][0]).split("%")[0]) for entry in found):
            raise OSError(FORBIDDEN)
        return found

    socket.getaddrinfo = checked


if RULES in os.environ:
    _rules = json.loads(os.environ[RULES])
    Lifeline(_rules["build"], socket.gethostname()).hold()
    resource.setrlimit(resource.RLIMIT_DATA, (_rules["memory"], _rules["memory"]))
    guard_connections(_rules["resolve"])
