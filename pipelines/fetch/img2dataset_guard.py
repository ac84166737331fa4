"""What must hold in every process of img2dataset, done on import if the environment marks it as one.

- It ends when the process that started it ends.
- Every connection, also one after a redirect, goes to a public address or to an override (as pipelines/fetch/address.py
  has it): names are resolved here, and what is checked is what is connected to.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from pipelines.fetch.address import is_public
from pipelines.lifeline import Lifeline

RULES = "JANUS_FORGE_RESOLVE"
"""Environment variable with the host overrides, as JSON. It also marks the processes to guard."""
FORBIDDEN = "forbidden_address"
"""How a refused connection reads in img2dataset's error messages."""


def guard_connections(overrides: dict[str, str]) -> None:
    """Let this process connect to public addresses and overrides only."""
    resolve = socket.getaddrinfo

    def checked(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        place = overrides.get(f"{host}:{port}".lower())
        if place is not None:
            address, _, number = place.rpartition(":")
            return resolve(address.strip("[]"), int(number), *args, **kwargs)
        found = resolve(host, port, *args, **kwargs)
        if not all(is_public(str(entry[4][0]).split("%")[0]) for entry in found):
            raise OSError(FORBIDDEN)
        return found

    socket.getaddrinfo = checked


if RULES in os.environ:
    Lifeline(os.getppid(), socket.gethostname()).hold()
    guard_connections(json.loads(os.environ[RULES]))
