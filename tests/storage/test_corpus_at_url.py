"""A corpus in an object store: built, refreshed, verified and trained from, whatever goes wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import load_snapshot
from schemas.spec import CorpusSpec, Operations
from storage import retry
from storage.places import as_store, open_store
from storage.store import plain_key
from tests.pipelines.test_build import grow, world
from tests.pipelines.world import contents, folder_source, image_folder, make_model, spec
from tests.storage.servers import faulty

At = Callable[[str], str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "janus")


@pytest.fixture(scope="module")
def local(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CorpusSpec, Path]:
    """A spec, and what a build of it in a folder makes."""
    folder = tmp_path_factory.mktemp("local")
    settings = spec(model, world(folder / "sources"))
    build(settings, folder / "c", Operations())
    return settings, folder / "c"


def contents_at(url: str) -> dict[str, str]:
    """As `contents` of a folder: path to digest, under the names that the corpus calls its files by."""
    store = open_store(url)
    found = {plain_key(entry.key): hashlib.sha256(store.read(entry.key)).hexdigest() for entry in store.list()}
    assert not any(key.startswith(".scratch") for key in found), "nothing of a finished build is left"
    return found


def test_it_is_the_one_of_a_folder(local: tuple[CorpusSpec, Path], at: At, moto_endpoint: str) -> None:
    settings, folder = local
    url = at(moto_endpoint)
    snapshot = build(settings, url, Operations())
    assert snapshot == load_snapshot(url) == load_snapshot(folder)
    assert contents_at(url) == contents(folder)
    report = verify(url)
    assert report.differences == ()
    assert report.shards == verify(folder).shards
    assert build(settings, url, Operations()) == snapshot, "nothing to do"
    assert contents_at(url) == contents(folder)


def test_damage_is_found(local: tuple[CorpusSpec, Path], at: At, moto_endpoint: str) -> None:
    _, folder = local
    url = at(moto_endpoint)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock":
            open_store(url).write(path.relative_to(folder).as_posix(), path.read_bytes())
    assert verify(url).differences == (), "a copy of a folder reads as it is"
    snapshot = load_snapshot(url)
    path = snapshot.shards[0].path
    data = bytearray(open_store(url).read(path))
    data[len(data) // 2] ^= 1
    open_store(url).write(path, bytes(data))
    (line,) = [line for line in verify_cold(url) if line.startswith(path) or path in line][:1]
    assert path in line


def verify_cold(url: str) -> tuple[str, ...]:
    """Verify with an empty cache."""
    shutil.rmtree(os.environ["JANUS_FORGE_CACHE"], ignore_errors=True)
    return verify(url).differences


@pytest.mark.slow
def test_a_refresh(model: Path, tmp_path: Path, at: At, moto_endpoint: str) -> None:
    url = at(moto_endpoint)
    settings = spec(model, world(tmp_path / "sources"))
    for place in (tmp_path / "c", url):
        build(settings, place, Operations())
    first = load_snapshot(url)
    grow(tmp_path / "sources/photos", [100, 101])
    for place in (tmp_path / "c", url):
        build(settings, place, Operations())
    assert contents_at(url) == contents(tmp_path / "c")
    assert load_snapshot(url).parent == first.name


@pytest.mark.slow
def test_injected_errors(
    local: tuple[CorpusSpec, Path], at: At, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third request meets one of these; the digests are those of the folder."""
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)
    settings, folder = local
    todo: list[Any] = [409, "drop", 503, "lost", 429, "cut", 500, 0.05]

    def fault(method: str, path: str, number: int) -> Any:
        return todo[number // 3 % len(todo)] if number % 3 == 0 else None

    with faulty(moto_endpoint, fault) as endpoint:
        url = at(endpoint)
        build(settings, url, Operations())
        assert contents_at(url) == contents(folder)


def test_two_builders_publish_in_turn(model: Path, tmp_path: Path, at: At, moto_endpoint: str) -> None:
    """The one that began earlier and ends later plans again, from what the other published."""
    from pipelines.build import STEPS, finish, opened
    from pipelines.steps.publish import Superseded

    url = at(moto_endpoint)
    photos = image_folder(tmp_path / "photos", list(range(6)))
    settings = spec(model, [folder_source(photos)])
    with opened(settings, url, Operations()) as slow:
        shards: list[Any] = []
        for step in STEPS.values():
            shards = step(slow, shards)
        grow(photos, [100])
        fast = build(settings, url, Operations())
        with pytest.raises(Superseded, match=f"{fast.name} was published meanwhile"):
            finish(slow, shards)
    assert load_snapshot(url) == fast
    assert build(settings, url, Operations()) == fast
    assert verify(url).differences == ()


def test_another_build_that_made_other_bytes_is_an_alarm(
    local: tuple[CorpusSpec, Path], at: At, moto_endpoint: str
) -> None:
    from pipelines import ledger
    from pipelines.shardio import ShardError, write_table
    from schemas.layers import DECISION

    store = as_store(at(moto_endpoint))

    def commit(layer: str, reason: str) -> Any:
        row = {"uid": b"u" * 16, "outcome": "ok", "reason": reason, "duplicate_of": None}
        step = ledger.StepSpec(layer, 1, {})
        path = ledger.shard_path(layer, "s", "a", step.key({}))
        written = write_table(store, path, DECISION, pa.Table.from_pylist([row], schema=DECISION))
        return ledger.commit(store, step, source="s", task="text", shard="a", inputs={}, written=written, counts={})

    first = commit("decision", "one")
    assert commit("decision", "one") == first, "the same again is done"
    with pytest.raises(ShardError, match="another build made other bytes of the same inputs"):
        commit("decision", "other")
    path = ledger.path_of(first)
    assert ledger.open_input(store, path)[1].table()["reason"].to_pylist() == ["one"], "and nothing was replaced"
    downloaded = commit("raw", "one")
    assert commit("raw", "other") == downloaded, "the network's answers may differ: the first stays"
    key = ledger.manifest_path(path)
    store.write(key, b"{}")
    assert commit("decision", "other").sha256 != first.sha256, "a damaged manifest is replaced"
