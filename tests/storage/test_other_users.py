"""What another account of the machine puts into a shared folder is not believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from storage.cache import FileCache
from storage.private import private_folder
from storage.verified import Verified

OTHER = 54321
"""Another account; none of that number need exist."""
WANTED, FORGED = b"what was asked for", b"what was put there"
NAME = sha256(WANTED).hexdigest()


def as_other(code: str, *arguments: object) -> None:
    """Run a program as another account, which need not be able to reach this Python."""
    change = f"import json, os, sys; os.setgroups([]); os.setresgid(*[{OTHER}] * 3); os.setresuid(*[{OTHER}] * 3)\n"
    subprocess.run([sys.executable, "-I", "-c", change + code, *map(str, arguments)], check=True)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which every account may write, as /tmp is, reachable for all."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as two accounts")
    folder = Path(tempfile.mkdtemp(prefix="janus-shared-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def fetch(file: BinaryIO) -> None:
    file.write(WANTED)


PLANT = """
import json, os, sys
folder, name, forged = sys.argv[1], sys.argv[2], sys.argv[3].encode()
os.makedirs(f"{folder}/{name[:2]}")
path = f"{folder}/{name[:2]}/{name}"
open(path, "wb").write(forged)
found = os.stat(path)
open(path + ".checked", "w").write(json.dumps([found.st_ino, found.st_mtime_ns, found.st_size]))
"""


def test_a_cache_of_another_account_is_refused(shared: Path) -> None:
    as_other(PLANT, shared / "cache", NAME, FORGED.decode())
    with pytest.raises(PermissionError, match=r"belongs to another user of this machine \(uid 54321\)") as caught:
        FileCache(shared / "cache", 1 << 20).get(NAME, len(WANTED), fetch)
    assert "\n" not in str(caught.value)


def test_a_link_of_another_account_is_not_followed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    as_other("import os, sys; os.symlink(sys.argv[1], sys.argv[2])", tmp_path / "mine", shared / "cache")
    with pytest.raises(PermissionError, match="belongs to another user"):
        FileCache(shared / "cache", 1 << 20).get(NAME, len(WANTED), fetch)
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_others_left_in_a_folder_that_was_open_is_fetched_anew(shared: Path) -> None:
    """A folder of ours in which others could write before: their files, and ours that they could change."""
    folder = shared / "cache"
    (folder / NAME[:2]).mkdir(parents=True)
    for path in (folder, folder / NAME[:2]):
        path.chmod(0o777)
    as_other(PLANT.replace("os.makedirs", "os.path.isdir"), folder, NAME, FORGED.decode())
    cache = FileCache(folder, 1 << 20)
    path = cache.get(NAME, len(WANTED), fetch)
    assert path.read_bytes() == WANTED
    assert not path.stat().st_mode & 0o022
    assert not folder.stat().st_mode & 0o022
    with pytest.raises(subprocess.CalledProcessError):
        as_other("import sys; open(sys.argv[1], 'w')", folder / "new")
    path.chmod(0o666)
    as_other("import os, sys; f = os.stat(sys.argv[1]); open(sys.argv[1], 'r+').write(sys.argv[2]);"
             "os.path.getsize(sys.argv[1]) == f.st_size or sys.exit(1)", path, FORGED.decode())  # fmt: skip
    (path.with_name(f"{path.name}.checked")).write_text(
        json.dumps([path.stat().st_ino, path.stat().st_mtime_ns, len(WANTED)])
    )
    assert cache.get(NAME, len(WANTED), fetch).read_bytes() == WANTED


def test_a_forged_memory_of_what_was_hashed_is_not_believed(shared: Path, tmp_path: Path) -> None:
    """The key of a damaged file, written by another account where ours is expected."""
    file = tmp_path / "shard"
    file.write_bytes(FORGED)
    memory = shared / "verified-shards"
    key = Verified(memory)._key(file, NAME)
    as_other("import sys; open(sys.argv[1], 'w').write(sys.argv[2] + chr(10))", memory, key)
    assert not Verified(memory).is_known(file, NAME)
    with pytest.raises(ValueError, match="its content is not what the snapshot says"):
        Verified(memory).check(file, NAME)
    # One of our own is believed, unless others may write it.
    memory.unlink()
    memory.write_text(f"{key}\n")
    memory.chmod(0o600)
    assert Verified(memory).is_known(file, NAME)
    memory.chmod(0o666)
    assert not Verified(memory).is_known(file, NAME)


def test_a_new_memory_is_ours_alone_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(WANTED)
    before = os.umask(0)
    try:
        Verified(tmp_path / "cache" / "known").check(tmp_path / "shard", NAME)
        path = FileCache(tmp_path / "files", 1 << 20).get(NAME, len(WANTED), fetch)
    finally:
        os.umask(before)
    made = [tmp_path / "cache", tmp_path / "cache/known", tmp_path / "files", path.parent, path, *path.parent.iterdir()]
    assert [str(one) for one in made if one.stat().st_mode & 0o022] == []


def test_a_folder_of_ours_stays_ours(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert private_folder(tmp_path / "b") == tmp_path / "b"
