"""Stores to test: a folder, memory, a light S3 server, and a real one where it is installed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.places import open_store
from storage.store import Store
from tests.storage import servers

_number = itertools.count()


@pytest.fixture(scope="session")
def moto_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.moto(tmp_path_factory.mktemp("moto")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def versity_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if servers.versitygw() is None:
        pytest.skip("no versitygw; install it with scripts/install-versitygw.sh")
    with servers.versity(tmp_path_factory.mktemp("versity")) as endpoint:
        yield endpoint


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], str]:
    """Call it with an endpoint: the environment of this test then leads there. Returns a new prefix's URL."""

    def lead(endpoint: str) -> str:
        for name, value in {**servers.KEYS, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("JANUS_FORGE_CACHE", str(tmp_path / "cache"))
        return f"s3://{servers.BUCKET}/test-{next(_number)}"

    return lead


@pytest.fixture(
    params=["folder", "memory", "moto", pytest.param("versity", marks=pytest.mark.integration)],
)
def store(request: pytest.FixtureRequest, at: Callable[[str], str], tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(tmp_path / "store")
    url = at(request.getfixturevalue(f"{request.param}_endpoint") if request.param != "memory" else "")
    return open_store(url if request.param != "memory" else f"memory:///{next(_number)}")
