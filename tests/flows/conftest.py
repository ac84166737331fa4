"""One real Prefect server for all flow tests, and a small corpus spec to build with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.world import image_folder, make_model


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private server, as `flows.corpus` starts it; yields the address of its API."""
    import os

    from flows.api import prefect_api

    before = dict(os.environ)
    with prefect_api(tmp_path_factory.mktemp("prefect")) as wait:
        from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

        url = os.environ["PREFECT_API_URL"]
        wait()
        # Prefect read its settings when some test module imported it, perhaps before this server was there.
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: Path(os.environ["PREFECT_HOME"])}):
            yield url
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tiny_janus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Janus folder of random weights: enough to tokenize with."""
    return make_model(tmp_path_factory.mktemp("model") / "janus")


SPEC = """
name = "photos"
stage = {stage}
shard_rows = 8

[models]
janus = "{{janus}}"

[dedup]
near_radius = 0

[[sources]]
name = "photos"
format = "image_folder"
path = "{{photos}}"
task = "generation"
filters = {{ size.min_side = 20 }}
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten pictures with captions; of two more, one is too small and one is not there."""
    folder = image_folder(tmp_path / "photos", list(range(10)))
    image_folder(tmp_path / "small", ["small"], width=12, height=12)
    (tmp_path / "small" / "small.jpg").rename(folder / "small.jpg")
    with (folder / "captions.jsonl").open("a") as file:
        file.write(
            '{"image": "small.jpg", "caption": "A small one."}\n{"image": "none.jpg", "caption": "Not there."}\n'
        )
    return folder


@pytest.fixture
def spec(tmp_path: Path, photos: Path) -> Path:
    """A stage 2 spec over `photos`."""
    path = tmp_path / "photos.toml"
    path.write_text(SPEC.format(stage=2))
    return path
