"""The hostile server, one for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fetch.hostile import Hostile


@pytest.fixture(scope="module")
def server() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.stop()
