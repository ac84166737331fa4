"""A server that is busy, slow, cuts the line or loses answers; and what no waiting mends."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import retry
from storage.cache import FileCache
from storage.objects import ObjectStore
from storage.store import StorageError, StorageUnreachable
from tests.storage.servers import faulty, free_port

At = Callable[[str], str]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_S", 0.05)


def exercise(store: ObjectStore) -> None:
    """Every operation once, with what it must say."""
    store.write("a", b"one")
    assert store.read("a") == b"one"
    assert store.read_range("a", 1, 2) == b"ne"
    assert store.size("a") == 3
    store.put_if_absent("m", b"mine")
    assert store.read("m") == b"mine"
    found = store.read_versioned("a")
    assert found is not None
    store.compare_and_swap("a", b"two", found.version)
    assert store.read("a") == b"two"
    with store.writing("f") as file:
        file.write(b"file")
    assert {entry.key for entry in store.list()} == {"a", "m", "f"}
    store.delete("f")
    assert store.size("f") is None


@pytest.mark.parametrize(
    ("todo", "every"), [(503, 5), (409, 4), ("lost", 4), (429, 2), (500, 2), ("drop", 2), ("cut", 2), (0.1, 1)]
)
def test_requests_that_go_wrong(at: At, moto_endpoint: str, todo: int | float | str, every: int) -> None:
    """Of so many requests only one is answered. obstore itself tries a request three times."""
    with faulty(moto_endpoint, lambda method, path, number: todo if number % every or every == 1 else None) as endpoint:
        exercise(ObjectStore(at(endpoint), give_up_s=60))


def test_412_is_an_answer_and_not_tried_again(at: At, moto_endpoint: str) -> None:
    seen: list[str] = []

    def watch(method: str, path: str, number: int) -> None:
        seen.append(method)

    with faulty(moto_endpoint, watch) as endpoint:
        store = ObjectStore(at(endpoint))
        assert store.put_if_absent("a", b"1")
        assert not store.put_if_absent("a", b"2")
    assert seen == ["PUT", "PUT"]


def test_a_lost_answer_of_a_conditional_put(at: At, moto_endpoint: str) -> None:
    """The value is there and its own writer is told no: which is why the losers compare."""
    with faulty(moto_endpoint, lambda method, path, number: "lost" if number == 1 else None) as endpoint:
        store = ObjectStore(at(endpoint))
        store.put_if_absent("a", b"mine")
        assert store.read("a") == b"mine"


@pytest.mark.parametrize(
    ("status", "line"),
    [(403, r"access denied"), (401, r"access denied"), (301, "another region"), (400, "answered 400 Injected")],
)
def test_what_no_waiting_mends(at: At, moto_endpoint: str, status: int, line: str) -> None:
    with faulty(moto_endpoint, lambda method, path, number: status) as endpoint:
        store = ObjectStore(at(endpoint))
        with pytest.raises(StorageError, match=rf"^{store.url}: .*{line}") as raised:
            store.read("a")
    assert "\n" not in str(raised.value)


def test_no_server_at_all(at: At) -> None:
    store = ObjectStore(at(f"http://127.0.0.1:{free_port()}"), give_up_s=0.2)
    with pytest.raises(
        StorageUnreachable, match=r"could not read LATEST for \d+ s \(.+\); check the network"
    ) as raised:
        store.read("LATEST")
    assert "\n" not in str(raised.value)


def test_a_reader_that_loses_the_network_waits_and_says_so(
    at: At, moto_endpoint: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "SAY_AFTER_S", 0.2)
    gone = threading.Event()
    with faulty(moto_endpoint, lambda method, path, number: "drop" if gone.is_set() else None) as endpoint:
        store = ObjectStore(at(endpoint), give_up_s=None)
        store.write("a", b"1")
        gone.set()
        threading.Timer(1.5, gone.clear).start()
        with caplog.at_level(logging.WARNING):
            assert store.read("a") == b"1"
    assert "could not read a for" in caplog.text
    assert "answers again after" in caplog.text


def test_a_cut_download_is_not_believed(at: At, moto_endpoint: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    with faulty(moto_endpoint, lambda method, path, number: "cut" if number in (2, 3, 4, 5) else None) as endpoint:
        store = ObjectStore(at(endpoint), cache=FileCache(tmp_path / "kept", 1 << 30))
        store.write("a", data)
        assert store.fetch("a", hashlib.sha256(data).hexdigest(), len(data)).read_bytes() == data
