"""Files and folders are whole or absent, also where the writer is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import files
from schemas.files import TEMPORARY, atomic_file, atomic_folder, commit_folder, write_file


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "LATEST"
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(TEMPORARY)], "written beside it"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["LATEST"]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "sub" / "text", "alt: ä\n")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "sub" / "text") as file:
        file.write(b"half %d" % (1 // 0))
    assert (tmp_path / "sub" / "text").read_text(encoding="utf-8") == "alt: ä\n"
    assert os.listdir(tmp_path / "sub") == ["text"]


def test_content_is_on_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that survives a power cut: content, then rename, then the folder's entry."""
    done: list[str] = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename

    def kind(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.removeprefix(TEMPORARY)[-6:]

    monkeypatch.setattr(files.os, "fsync", lambda fd: (done.append(f"fsync {kind(fd)}"), fsync(fd))[1])
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    monkeypatch.setattr(Path, "rename", lambda a, b: (done.append("rename"), rename(a, b))[1])
    home = tmp_path / "parent"
    write_file(home / "f-file", b"x")
    assert done == ["fsync f-file", "rename", "fsync parent"]
    done.clear()
    with atomic_folder(home / "folder") as staging:
        (staging / "a-file").write_bytes(b"x")
    assert done == ["fsync a-file", "fsync folder", "rename", "fsync parent"]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    for content in ("one", "two"):
        with atomic_folder(folder) as staging:
            assert list(staging.iterdir()) == []
            (staging / content).write_text(content)
            assert not (folder / content).exists()
        assert os.listdir(folder) == [content]
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as staging:
        (staging / "three").write_bytes(b"half %d" % (1 // 0))
    assert os.listdir(folder) == ["two"]
    assert os.listdir(tmp_path / "deep") == ["model"]


def test_a_folder_that_others_filled_is_committed(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "shard").touch()
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "old").touch()
    commit_folder(tmp_path / "work", tmp_path / "step")
    assert os.listdir(tmp_path) == ["step"]
    assert os.listdir(tmp_path / "step") == ["shard"]


KILLED = """
import os, signal, sys
from pathlib import Path
from schemas.files import atomic_file, atomic_folder
with atomic_folder(Path(sys.argv[1], "folder")) as staging, atomic_file(Path(sys.argv[1], "file")) as file:
    (staging / "half").touch()
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_only_temporary_names(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(os.listdir(tmp_path)) == 2
    assert all(name.startswith(TEMPORARY) for name in os.listdir(tmp_path))
    with atomic_folder(tmp_path / "folder") as staging:
        assert list(staging.iterdir()) == [], "what the killed one left is gone"
    assert os.listdir(tmp_path / "folder") == []
