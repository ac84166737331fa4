from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.serve import serve, serve_all


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return answer.read()


def test_serves_the_bytes_of_a_file_and_404_for_dead_links_and_folders(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"\xff\xd8 picture")
    with serve(tmp_path) as address:
        assert get(address, "/images/a.jpg") == b"\xff\xd8 picture"
        for dead in ("/images/b.jpg", "/images/", "/../outside.txt"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(address, dead)
    with pytest.raises(urllib.error.URLError):
        get(address, "/images/a.jpg")  # stopped with the context


def test_several_folders_by_the_host_they_stand_for(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    with serve_all({"a.test:80": str(tmp_path / "a"), "b.test:80": str(tmp_path / "b")}) as resolve:
        assert [get(resolve[host], "/x") for host in ("a.test:80", "b.test:80")] == [b"a", b"b"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"), serve(tmp_path / "nowhere"):
        pass
