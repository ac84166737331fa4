"""Finding a model: folders first, then the hub's cache; no network in these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from janus.model.checkpoints.hub import local_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache as huggingface_hub lays it out, holding one model."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "models--someone--Janus-small"
    snapshot = model / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert local_folder(tmp_path) == tmp_path


def test_a_hub_id_is_found_in_the_cache(cache: Path) -> None:
    assert local_folder("someone/Janus-small") == cache


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("source", ["someone/other", "no-slash", "a/b/c", "/absolute/path", "../up", "~/home"])
def test_what_is_neither_is_one_line(source: str) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder") as caught:
        local_folder(source)
    assert "\n" not in str(caught.value)
