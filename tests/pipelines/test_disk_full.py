"""A full disk is one line, nothing half-written is believed, and the build goes on where there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.spec import Operations
from tests.pipelines.world import contents, folder_source, image_folder, spec


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


@pytest.mark.integration
def test_a_full_disk(model: Path, tmp_path: Path, small_disk: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(40)), width=300, height=300)
    settings = spec(model, [folder_source(photos)])
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    for room in (4, 60, 150, 300):
        with ballast.open("wb") as file:
            file.write(bytes(free - room * 1024))
        with pytest.raises((ValueError, OSError), match=r"[Nn]o space left") as error:
            build(settings, small_disk / "c", Operations())
        assert all("Traceback" not in line for line in str(error.value).splitlines())
        ballast.unlink()
        assert verify(small_disk / "c").differences == (), "what is there is whole"
        assert not (small_disk / "c/LATEST").exists()
        subprocess.run(["find", str(small_disk / "c"), "-delete"], check=True)
    build(settings, tmp_path / "roomy", Operations())
    with ballast.open("wb") as file:
        file.write(bytes(free - 150 * 1024))
    with pytest.raises((ValueError, OSError)):
        build(settings, small_disk / "c", Operations())
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    build(settings, small_disk / "c", Operations())
    assert contents(small_disk / "c") == contents(tmp_path / "roomy"), "it went on where it had stopped"
