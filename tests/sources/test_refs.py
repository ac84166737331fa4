"""References never leave the source's folder, and name images by their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path

import pytest

from pipelines.reading.errors import RowError
from pipelines.reading.gate import Gate
from pipelines.reading.local import LocalImages, gates_of
from pipelines.reading.refs import Images, local_image
from schemas.reasons import Outcome
from schemas.sample import ImageRef, Message, Sample
from schemas.spec import Source
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
    with pytest.raises(RowError, match=r"^here: ") as caught:
        local_image(Gate(root), path, "here")
    assert caught.value.outcome == Outcome.FORBIDDEN_PATH
    with pytest.raises(RowError):
        read_image(ImageRef(path=path), root)


def test_links_inside_the_folder_and_a_linked_root_are_fine(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"picture")
    (root / "b").symlink_to("a")
    (tmp_path / "other").symlink_to(root)
    assert local_image(Gate(tmp_path / "other"), "b", "here").sha256 == hashlib.sha256(b"picture").hexdigest()


def test_a_missing_file_keeps_its_row_and_is_another_row_once_it_is_there(tmp_path: Path) -> None:
    def sample() -> Sample:
        image = local_image(Gate(tmp_path), "./a.jpg", "here")
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
    moved = there.model_copy(update={"images": (local_image(Gate(tmp_path), "b.jpg", "here"),)})
    assert moved.uid == there.uid  # content, not place


def test_what_is_no_file_is_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("folder", "a" * 300 + ".jpg", "file/a.jpg"):
        assert local_image(Gate(tmp_path), name, "here").sha256 is None
        with pytest.raises(FileNotFoundError):
            read_image(ImageRef(path=name), tmp_path)


def test_pipes_and_sockets_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, kind in (("pipe", "named pipe"), ("socket", "socket")):
            with pytest.raises(RowError, match=f"here: a {kind}, not a regular file") as caught:
                local_image(Gate(tmp_path), name, "here")
            assert caught.value.outcome == Outcome.FORBIDDEN_PATH
            with pytest.raises(RowError):
                read_image(ImageRef(path=name), tmp_path)


def test_addresses_and_paths_are_told_apart(tmp_path: Path) -> None:
    source = Source(name="s", format="llava", path=str(tmp_path), task="understanding")
    images = Images(source, folder="images")
    for address in ("https://host/a.jpg", "HTTP://host/a.jpg", "Https://host/a.jpg"):
        assert images.at(address, "here").url == address
    assert images.at("a.jpg", "here").path == "images/a.jpg"
    with pytest.raises(RowError, match="must be relative"):
        images.at("/a.jpg", "here")


def test_an_image_folder_apart(tmp_path: Path) -> None:
    """An absolute `images`: references name it as a root of their own, so that they are the same on every machine."""
    (tmp_path / "data").mkdir()
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "1.jpg").write_bytes(b"picture")
    options = {"images": str(tmp_path / "coco")}
    source = Source(name="s", format="llava", path=str(tmp_path / "data"), task="understanding", options=options)
    found = Images(source).at("1.jpg", "here")
    assert (found.path, found.root, found.sha256) == ("1.jpg", "images", hashlib.sha256(b"picture").hexdigest())
    with contextlib.closing(LocalImages([found], gates_of(source), tmp_path, 100)) as images:
        assert images.read(found) == b"picture"
    with pytest.raises(RowError, match="must be relative"):
        Images(source).at("../data/x", "here")
    assert source.portable_options == {"images": "/"}
