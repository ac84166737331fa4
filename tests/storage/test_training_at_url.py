"""Training from an object store: the losses of a corpus on disk, to the last bit, whatever the cache holds."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from janus.train.loggers.json_lines import read_metrics
from janus.train.loop import train
from janus.train.record import Inputs
from storage import retry
from storage.places import open_store
from tests.storage.servers import faulty
from tests.train.little import little_recipe, write_corpus, write_model

At = Callable[[str], str]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:torch.distributed is disabled")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "janus")


@pytest.fixture(scope="module")
def corpus(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "c"
    write_corpus(folder, model)
    return folder


def losses(model: Path, data: str | Path, out: Path, shuffle: str = "row") -> list[Any]:
    recipe = little_recipe(2)
    recipe = replace(recipe, data=replace(recipe.data, shuffle=shuffle, block_shards=2))
    train(recipe, Inputs(model, data, out), Console(quiet=True), device="cpu")
    return [(line["step"], line["loss"], line["batch"]) for line in read_metrics(out / "metrics.jsonl")]


def upload(corpus: Path, url: str) -> str:
    for path in corpus.rglob("*"):
        if path.is_file():
            open_store(url).write(path.relative_to(corpus).as_posix(), path.read_bytes())
    return url


def test_cold_warm_small_and_damaged_caches(
    model: Path, corpus: Path, tmp_path: Path, at: At, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(model, corpus, tmp_path / "disk")
    url = upload(corpus, at(moto_endpoint))
    cache = tmp_path / "cache"
    assert losses(model, url, tmp_path / "cold") == expected
    kept = [path for path in cache.glob("??/*") if not path.suffix]
    assert kept, "shards are in the cache"
    with faulty(moto_endpoint, lambda method, path, number: 500 if ".arrow" in path else None) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        assert losses(model, url, tmp_path / "warm") == expected, "no shard is fetched again"
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    for path in kept:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert losses(model, url, tmp_path / "damaged") == expected
    shutil.rmtree(cache)
    monkeypatch.setenv("JANUS_FORGE_CACHE_GB", "0.000001")
    assert losses(model, url, tmp_path / "small") == expected


def test_blocks_and_a_network_that_is_lost(
    model: Path, corpus: Path, tmp_path: Path, at: At, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    expected = losses(model, corpus, tmp_path / "disk", "block")
    assert expected != losses(model, corpus, tmp_path / "row")
    monkeypatch.setattr(retry, "SAY_AFTER_S", 0.2)
    gone = threading.Event()
    fetched: list[str] = []

    def fault(method: str, path: str, number: int) -> Any:
        if method == "GET" and ".arrow" in path and not fetched:
            fetched.append(path)
            gone.set()
            threading.Timer(2, gone.clear).start()
        return "drop" if gone.is_set() else None

    with faulty(moto_endpoint, fault) as endpoint:
        url = upload(corpus, at(endpoint))
        assert losses(model, url, tmp_path / "lost", "block") == expected
    assert fetched
    assert "waiting" in caplog.text
