"""Shards that are not what the snapshot says, or stop being it while a run reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from janus.data.config import DataConfig
from janus.data.loader import Loader
from schemas.digest import file_sha256
from schemas.layers import TRAIN
from schemas.manifest import Snapshot
from storage import verified
from storage.verified import Verified, cache_file
from tests.data.make import TOKENS, MadeSource, make_corpus

DATA = DataConfig(ratio=(1, 1, 1), sequences=4, seq_len=64, micro_batch=4, decode_threads=2)
SOURCES = [
    MadeSource("photos", "understanding", 40),
    MadeSource("texts", "text", 40),
    MadeSource("art", "generation", 40),
]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Snapshot]:
    """A corpus on a machine that has never seen it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "corpus", make_corpus(tmp_path / "corpus", SOURCES, shard_rows=16)


def run_through(folder: Path, snapshot: Snapshot, **changes: object) -> int:
    """All documents of a few epochs; their number."""
    data = DataConfig(**{**DATA.__dict__, **changes})  # type: ignore[arg-type]
    loader = Loader(folder, snapshot, data=data, tokens=TOKENS, steps=40)
    return sum(len(batch.uids) for step in loader for batch in step)


def places(path: Path) -> dict[str, int]:
    """A byte inside each column of a shard: the last one of its longest buffer."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    content = path.read_bytes()
    found = {}
    for name in TRAIN.names:
        buffers = [buffer for buffer in batch.column(name).buffers() if buffer is not None and buffer.size]
        longest = max(buffers, key=lambda buffer: buffer.size).to_pybytes()
        found[name] = content.index(longest) + len(longest) // 2
    return found


@pytest.mark.parametrize("number", [0, 5])
def test_a_flipped_byte_in_any_column_is_never_trained_on(corpus: tuple[Path, Snapshot], number: int) -> None:
    folder, snapshot = corpus
    path = folder / snapshot.shards[number].path
    before = path.read_bytes()
    flipped = places(path)
    assert len(set(flipped.values())) >= 5
    for name, place in flipped.items():
        content = bytearray(before)
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=str(path)) as caught:
            run_through(folder, snapshot)
        assert "\n" not in str(caught.value), name
    path.write_bytes(before)
    assert run_through(folder, snapshot) > 200


def test_a_flip_trains_without_a_word_where_nothing_is_verified(corpus: tuple[Path, Snapshot]) -> None:
    """What `verify` is for: no other check sees a code that is another code."""
    folder, snapshot = corpus
    (path,) = {folder / shard.path for shard in snapshot.shards if shard.task == "generation" and shard.rows == 8}
    content = bytearray(path.read_bytes())
    content[places(path)["codes"] // 2 * 2] ^= 1
    path.write_bytes(content)
    assert run_through(folder, snapshot, verify=False) > 200
    with pytest.raises(ValueError, match="its content is not what the snapshot says"):
        run_through(folder, snapshot)


def test_a_shard_is_hashed_once_per_machine(corpus: tuple[Path, Snapshot], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, snapshot = corpus
    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr(verified, "file_sha256", counting)
    first = Loader(folder, snapshot, data=DATA, tokens=TOKENS, steps=40)
    assert first.unverified_bytes == sum(shard.bytes for shard in snapshot.shards)
    assert not hashed, "at first use, not before the first step"
    run_through(folder, snapshot)
    assert sorted(hashed) == sorted(folder / shard.path for shard in snapshot.shards)
    hashed.clear()
    assert Loader(folder, snapshot, data=DATA, tokens=TOKENS, steps=40).unverified_bytes == 0
    run_through(folder, snapshot)
    assert hashed == []
    # A file that was touched is another file.
    touched = folder / snapshot.shards[2].path
    os.utime(touched)
    run_through(folder, snapshot)
    assert hashed == [touched]
    hashed.clear()
    cache_file().unlink()
    run_through(folder, snapshot)
    assert len(hashed) == len(snapshot.shards)


def test_what_another_process_has_hashed_is_known(tmp_path: Path) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"content")
    one, other = Verified(tmp_path / "known"), Verified(tmp_path / "known")
    one.check(file, file_sha256(file))
    assert other.is_known(file, file_sha256(file)) is False
    other.check(file, file_sha256(file))
    assert (tmp_path / "known").read_text().count("\n") == 1


def test_a_cache_that_cannot_be_written_costs_time_only(corpus: tuple[Path, Snapshot], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    assert run_through(*corpus) > 200


READ = """
import json, sys
from pathlib import Path
from janus.cli import run
from janus.data.config import DataConfig
from janus.data.loader import Loader
from schemas.manifest import load_snapshot
from tests.data.make import TOKENS

def main():
    folder = Path(sys.argv[1])
    snapshot = load_snapshot(folder)
    data = DataConfig(**json.loads(sys.argv[2]))
    steps = iter(Loader(folder, snapshot, data=data, tokens=TOKENS, steps=10_000))
    for _ in range(3):
        next(steps)
    for shard in snapshot.shards:
        with (folder / shard.path).open("r+b") as file:
            file.truncate(shard.bytes // 3)
    for _ in steps:
        pass

run(main)
"""


def test_a_shard_that_is_cut_while_it_is_read_is_named(corpus: tuple[Path, Snapshot], tmp_path: Path) -> None:
    """In a process of its own: reading what was cut off a mapped file would end it with SIGBUS."""
    script = tmp_path / "read.py"
    script.write_text(READ)
    data = {"ratio": [1, 1, 1], "sequences": 4, "seq_len": 64, "micro_batch": 4, "decode_threads": 2}
    done = subprocess.run(
        [sys.executable, str(script), str(corpus[0]), json.dumps(data)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {corpus[0]}")
    assert "cut or replaced while training (" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_shard_that_goes_or_is_another_is_named(corpus: tuple[Path, Snapshot]) -> None:
    folder, snapshot = corpus
    for harm, said in (
        ("replaced", "cut or replaced while (training|it was read)"),
        ("gone", "missing, but the snapshot names it"),
    ):
        steps = iter(Loader(folder, snapshot, data=DATA, tokens=TOKENS, steps=10_000))
        next(steps)
        before = {folder / shard.path: (folder / shard.path).read_bytes() for shard in snapshot.shards}
        for path, content in before.items():
            if harm == "gone":
                path.unlink()
                continue
            # At once: the loader may be hashing the file meanwhile.
            other = path.with_suffix(".other")
            other.write_bytes(content)
            other.replace(path)
        with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
            for _ in steps:
                pass
        assert "\n" not in str(caught.value)
        for path, content in before.items():
            path.write_bytes(content)
