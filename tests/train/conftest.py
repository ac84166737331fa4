"""A little model and corpus, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.little import write_corpus, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a little Janus."""
    return write_model(tmp_path_factory.mktemp("little") / "janus")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Corpus folder for it, with all tasks."""
    folder = tmp_path_factory.mktemp("little") / "corpus"
    write_corpus(folder, model)
    return folder
