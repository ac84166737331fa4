"""Fixtures that several pipeline tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.world import make_clip, make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy Janus folder."""
    return make_model(tmp_path_factory.mktemp("model") / "janus")


@pytest.fixture(scope="session")
def toy_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options of `[signals.caption_score]` for a toy open_clip model."""
    return make_clip(tmp_path_factory.mktemp("clip"))
