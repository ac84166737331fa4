"""The hostile server's whole list through whole builds, by one and by four workers and by both engines."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import ledger
from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import Snapshot
from schemas.reasons import Outcome
from schemas.spec import Operations
from tests.fetch import sites
from tests.fetch.behaviours import EXPECTED, full
from tests.fetch.hostile import Hostile
from tests.fetch.test_img2dataset import HANGING
from tests.pipelines.world import spec

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Hostile]:
    """A fresh one for each build: some of its behaviours depend on how often they were asked for."""
    server = Hostile()
    yield server
    server.stop()


def collect(
    server: Hostile, model: Path, folder: Path, places: list[str], deadline_s: float, **given: Any
) -> tuple[Snapshot, dict[str, dict[str, Any]]]:
    """Build a corpus of `places`; returns it with the one image of each row by place."""
    folder.mkdir(exist_ok=True)
    rows = [json.dumps({"url": full(place), "caption": f"At {place}"}) for place in places]
    (folder / "urls.jsonl").write_text("\n".join(rows))
    source = {"name": "web", "format": "url_list", "path": str(folder / "urls.jsonl"), "task": "generation"}
    limits = {"max_bytes": 1 << 20, "max_pixels": 1_000_000, "deadline_s": deadline_s}
    settings = spec(model, [source], shard_rows=64, max_failed_share=1.0, limits=limits)
    resolve = {**server.resolve, "site.test:443": server.place}
    operations = Operations.model_validate({"resolve": resolve, "connections": 24, "retries": 1, **given})
    snapshot = build(settings, folder / "corpus", operations)
    assert verify(folder / "corpus").differences == ()
    images: dict[str, dict[str, Any]] = {}
    for entry in snapshot.shards:
        for row in ledger.open_input(folder / "corpus", entry.upstream["raw"])[1].table().to_pylist():
            (images[row["messages"][0]["text"].removeprefix("At ")],) = row["images"]
    return snapshot, images


@pytest.mark.parametrize("workers", [1, 4])
def test_every_behaviour_in_a_build(server: Hostile, model: Path, tmp_path: Path, workers: int) -> None:
    snapshot, images = collect(server, model, tmp_path, list(EXPECTED), 5.0, workers=workers, per_host=24)
    assert {place: image["outcome"] for place, image in images.items()} == EXPECTED
    assert all((image["bytes"] is not None) == (image["outcome"] == Outcome.OK) for image in images.values())
    assert all(image["detail"] for image in images.values() if image["outcome"] == Outcome.OPTED_OUT)
    counts = dict(snapshot.funnel["web"])
    assert counts.pop("rows") == len(EXPECTED) == sum(counts.values())
    wanted = Counter(outcome for outcome in EXPECTED.values() if outcome not in (Outcome.OK, Outcome.OPTED_OUT))
    assert {outcome: counts[outcome] for outcome in wanted} == wanted
    # What is reserved was never asked for, and each site once for what it reserves, by all shards and workers.
    for address, outcome in sites.EXPECTED.items():
        host = address.split("/")[2]
        assert outcome == Outcome.OK or server.hits[host, "/photo.jpg"] == 0, host
        if not outcome.transient and host != "everybody.robots.test":  # to which another one redirects
            assert server.hits[host, "/robots.txt"] == 1 or "redirect" in host, host
    assert server.hits["site.test", "/robots.txt"] == server.hits["site.test", "/ai.txt"] == 1
    assert not (tmp_path / "corpus" / ".scratch").exists()


def test_img2dataset_meets_the_same_opt_outs_in_a_build(server: Hostile, model: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("img2dataset") is None:
        pytest.skip("needs img2dataset")
    places = [place for place in EXPECTED if place not in HANGING]
    _, images = collect(server, model, tmp_path, places, 5.0, download_engine="img2dataset", workers=2)
    found = {place: image["outcome"] for place, image in images.items()}
    assert found == {place: EXPECTED[place] for place in places}
    assert all(image["detail"] for image in images.values() if image["outcome"] == Outcome.OPTED_OUT)
    for address, outcome in sites.EXPECTED.items():
        assert outcome == Outcome.OK or server.hits[address.split("/")[2], "/photo.jpg"] == 0, address
