"""References never leave the source's folder, and name images by their content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipelines.reading.refs import image_at, local_image
from pipelines.sources import SourceError
from schemas.sample import ImageRef, Message, Sample
from tests.sources.reading import read_image


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../secret", "", "a/../b", "link", "folder/x", "a\0b"]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(SourceError, match=r"^here: "):
        local_image(root, path, "here")
    with pytest.raises(SourceError):
        read_image(ImageRef(path=path), root)


def test_links_inside_the_folder_and_a_linked_root_are_fine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"picture")
    (root / "b").symlink_to("a")
    (tmp_path / "other").symlink_to(root)
    assert local_image(tmp_path / "other", "b", "here").sha256 == hashlib.sha256(b"picture").hexdigest()


def test_a_missing_file_keeps_its_row_and_is_another_row_once_it_is_there(tmp_path: Path) -> None:
    def sample() -> Sample:
        image = local_image(tmp_path, "./a.jpg", "here")
        return Sample(task="generation", key="k", messages=(Message(role="caption", text="c"),), images=(image,))

    missing = sample()
    assert missing.images[0].sha256 is None
    assert missing.images[0].identity == "path:a.jpg"
    with pytest.raises(FileNotFoundError):
        read_image(missing.images[0], tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"picture")
    there = sample()
    assert there.uid != missing.uid
    assert there.images[0].identity == "sha256:" + hashlib.sha256(b"picture").hexdigest()
    (tmp_path / "a.jpg").rename(tmp_path / "b.jpg")
    moved = there.model_copy(update={"images": (local_image(tmp_path, "b.jpg", "here"),)})
    assert moved.uid == there.uid  # content, not place


def test_what_is_no_file_is_a_missing_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder", "a" * 300 + ".jpg", "pipe/a.jpg"):
        assert local_image(tmp_path, name, "here").sha256 is None
        with pytest.raises(FileNotFoundError):
            read_image(ImageRef(path=name), tmp_path)


def test_addresses_and_paths_are_told_apart(tmp_path: Path) -> None:
    assert image_at(tmp_path, "https://host/a.jpg", "here").url == "https://host/a.jpg"
    assert image_at(tmp_path, "a.jpg", "here", "images").path == "images/a.jpg"
