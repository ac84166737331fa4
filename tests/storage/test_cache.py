"""The cache of files from an object store: bounded, shared, checked, kill-safe."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from storage.cache import FileCache, default_cache

ROOT = Path(__file__).resolve().parents[2]
SIZE = 10_000


def content(seed: int) -> bytes:
    return hashlib.shake_256(str(seed).encode()).digest(SIZE)


def name(seed: int) -> str:
    return hashlib.sha256(content(seed)).hexdigest()


class Source:
    """Files by number; counts how often each was fetched."""

    def __init__(self) -> None:
        self.fetched: list[int] = []

    def __call__(self, seed: int) -> Callable[[BinaryIO], None]:
        def fetch(file: BinaryIO) -> None:
            self.fetched.append(seed)
            data = content(seed)
            file.write(data[:1000])
            file.write(data[1000:])

        return fetch


def get(cache: FileCache, source: Source, seed: int) -> Path:
    """As `storage.places.open_fetched`: another process may evict the file before it is opened."""
    while True:
        path = cache.get(name(seed), SIZE, source(seed))
        with contextlib.suppress(FileNotFoundError):
            assert path.read_bytes() == content(seed)
            return path


def stored(root: Path) -> set[str]:
    return {path.name for path in root.glob("??/*") if not path.suffix}


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    source = Source()
    for _ in range(3):
        get(FileCache(tmp_path, 1 << 20), source, 1)
    assert source.fetched == [1]


def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path, 3 * SIZE + 1000), Source()
    for seed in (1, 2, 3, 1, 4):
        get(cache, source, seed)
        time.sleep(0.01)
    assert stored(tmp_path) == {name(seed) for seed in (3, 1, 4)}, "2 was not used for longest"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= cache.limit
    get(cache, source, 2)
    assert source.fetched == [1, 2, 3, 4, 2]


def test_a_mapped_file_outlives_its_eviction(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path, SIZE + 500), Source()
    with get(cache, source, 1).open("rb") as file:
        get(cache, source, 2)
        assert stored(tmp_path) == {name(2)}
        assert file.read() == content(1)


def test_a_cache_too_small_for_one_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, source = FileCache(tmp_path, 100), Source()
    get(cache, source, 1)
    get(cache, source, 2)
    assert stored(tmp_path) == {name(2)}
    assert "does not fit" in caplog.text


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_fetched_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    path = get(FileCache(tmp_path, 1 << 20), source, 1)
    data = bytearray(content(1))
    data[5000] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": content(1)[:-1], "empty": b""}[damage])
    get(FileCache(tmp_path, 1 << 20), source, 1)
    assert source.fetched == [1, 1]
    assert ("damaged in the cache" in caplog.text) == (damage == "flip")


def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path, 1 << 20), Source()
    with pytest.raises(ValueError, match=r"came as 10000 bytes with SHA-256 .* changed or damaged"):
        cache.get(name(2), SIZE, source(1))
    with pytest.raises(ValueError, match=r"came as 10000 bytes .* expected 9999"):
        cache.get(name(1), SIZE - 1, source(1))
    assert [path for path in tmp_path.glob("??/*")] == []


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no network")

    cache = FileCache(tmp_path, 1 << 20)
    with pytest.raises(OSError, match="no network"):
        cache.get(name(1), SIZE, fails)
    assert [path for path in tmp_path.glob("??/*")] == []
    get(cache, Source(), 1)


def test_many_threads_fetch_each_file_once(tmp_path: Path) -> None:
    cache, source = FileCache(tmp_path, 1 << 20), Source()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda seed: get(cache, source, seed % 5), range(100)))
    assert sorted(source.fetched) == [0, 1, 2, 3, 4]


RANK = """
import sys, random
from pathlib import Path
from storage.cache import FileCache
from tests.storage.test_cache import Source, get, SIZE
cache, source = FileCache(Path(sys.argv[1]), 6 * SIZE), Source()
rng = random.Random(sys.argv[2])
for _ in range(int(sys.argv[3])):
    get(cache, source, rng.randrange(12))
print(len(source.fetched))
"""


def rank(folder: Path, seed: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RANK, str(folder), str(seed), str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_processes_share_it_and_survive_kills(tmp_path: Path) -> None:
    """Ranks that evict each other's files while some of them are killed: every read was checked in `get`."""
    doomed = [rank(tmp_path, seed, 10**6) for seed in range(3)]
    living = [rank(tmp_path, seed, 400) for seed in range(10, 13)]
    for process in doomed:
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    for process in living:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert int(output) > 0
    assert len(stored(tmp_path)) <= 6
    left = [path for path in tmp_path.glob("??/*.part")]
    for seed in range(12):
        get(FileCache(tmp_path, 6 * SIZE), Source(), seed)
    assert not set(left) & set(tmp_path.glob("??/*.part")), "what the dead left unfinished is swept away"


def test_the_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JANUS_FORGE_CACHE", "/fast/disk")
    monkeypatch.setenv("JANUS_FORGE_CACHE_GB", "1.5")
    assert (default_cache().root, default_cache().limit) == (Path("/fast/disk"), 1_500_000_000)
    for wrong in ("0", "-1", "much", "nan"):
        monkeypatch.setenv("JANUS_FORGE_CACHE_GB", wrong)
        with pytest.raises(ValueError, match=f"JANUS_FORGE_CACHE_GB={wrong}: expected the size"):
            default_cache()


def test_names_are_hashes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a SHA-256"):
        FileCache(tmp_path, 1).get("../../etc/passwd", 1, Source()(1))
    assert os.listdir(tmp_path) == []
