"""The digest of a starting model names every file of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from janus.train.record import model_digest


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ],
)
def test_a_changed_file_changes_the_digest(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_bytes(b"before")
    before = model_digest(tmp_path)
    (tmp_path / name).write_bytes(b"after!")
    assert model_digest(tmp_path) != before
