"""Whole builds keep the rows that the rules keep when they are written out and applied one by one to the same bytes."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.world.world import WorldConfig, write_world
from pipelines import ledger
from pipelines.build import build
from schemas.manifest import Snapshot
from schemas.spec import CorpusSpec, Operations, load_spec
from tests.pipelines.world import folder_source, scores_by_hand, spec

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Candidate:
    """A row as an outsider reads it."""

    source: str
    task: str
    uid: bytes
    data: bytes
    image: Image.Image
    caption: str

    @functools.cached_property
    def hash(self) -> np.ndarray:
        """Bits of the perceptual hash by its definition: the low frequencies of a DCT-II against their median."""
        grey = np.asarray(self.image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
        n, k = np.arange(32), np.arange(8)
        cosines = np.cos(np.pi * np.outer(2 * n + 1, k) / 64)
        low = np.einsum("yx,yu,xv->uv", grey, cosines, cosines).round(6)
        return low > np.median(low)


Rule = Callable[[Candidate], bool]


def rows(corpus: Path, snapshot: Snapshot) -> Iterator[Candidate]:
    """Rows whose image decodes, from the raw layer."""
    for entry in snapshot.shards:
        for row in ledger.open_input(corpus, entry.upstream["raw"])[1].table().to_pylist():
            data = row["images"][0]["bytes"]
            if row["outcome"] != "ok":
                continue
            try:
                image = Image.open(io.BytesIO(data)).convert("RGB")
            except OSError:
                continue
            yield Candidate(entry.source, entry.task, row["uid"], data, image, row["messages"][0]["text"])


def expected(found: list[Candidate], rules: dict[str, Rule], radius: int) -> set[tuple[str, bytes]]:
    """(source, uid) of what stays: who passes the rules, visited in the order of preference, each unless it repeats."""
    passing = [row for row in found if rules.get(row.source, lambda _: True)(row)]
    passing.sort(key=lambda row: (not row.caption, -row.image.width * row.image.height, row.uid))
    kept: list[Candidate] = []
    seen: dict[tuple[str, bytes], None] = {}
    for row in passing:
        content = row.task, hashlib.sha256(row.data).digest()
        close = (one for one in kept if one.task == row.task and (one.hash ^ row.hash).sum() <= radius)
        if content not in seen and next(close, None) is None:
            kept.append(row)
        seen[content] = None
    return {(row.source, row.uid) for row in kept}


def kept(corpus: Path, snapshot: Snapshot) -> set[tuple[str, bytes]]:
    return {
        (entry.source, uid)
        for entry in snapshot.shards
        for uid in ledger.open_input(corpus, entry.path)[1].table()["uid"].to_pylist()
    }


def test_photos(shared_data: Path, model: Path, tmp_path: Path) -> None:
    """Real photos, some of them copied, recompressed, made smaller, or under a caption of one word."""
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = []
    for number, file in enumerate(sorted((shared_data / "photos/coco").glob("*.jpg"))[:24]):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        versions = {"a": image}
        if number % 4 == 0:
            versions["recompressed"] = image
        if number % 5 == 0:
            versions["smaller"] = image.resize((image.width * 3 // 4, image.height * 3 // 4))
        for name, version in versions.items():
            version.save(photos / f"{number}-{name}.jpg", quality=95 if name == "a" else 60)
            caption = f"Photo number {number}, {name}." if number % 7 else "Photo"
            lines.append(json.dumps({"image": f"{number}-{name}.jpg", "caption": caption}))
    (photos / "captions.jsonl").write_text("\n".join(lines))
    filters = {"size": {"min_side": 320}, "aspect_ratio": {"max": 1.6}, "caption_length": {"min_words": 2}}
    sources = [folder_source(photos, "drawn", filters=filters), folder_source(photos, "described", "understanding")]
    snapshot = build(spec(model, sources), tmp_path / "c", Operations())

    def passes(row: Candidate) -> bool:
        width, height = row.image.size
        return min(width, height) >= 320 and max(width, height) <= 1.6 * min(width, height) and " " in row.caption

    assert kept(tmp_path / "c", snapshot) == expected([*rows(tmp_path / "c", snapshot)], {"drawn": passes}, radius=4)
    assert snapshot.funnel["drawn"].keys() > {"kept", "too_small", "aspect_ratio", "caption_length", "duplicate_near"}


@pytest.fixture
def built_in_world(tmp_path: Path) -> Iterator[tuple[Path, Operations]]:
    """The demo's world with its web pictures on a local server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    write_world(tmp_path / "world", WorldConfig(300, 1, 4))
    handler = functools.partial(Handler, directory=str(tmp_path / "world" / "http"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "world", Operations(resolve={"shapes.test:80": f"127.0.0.1:{server.server_address[1]}"})
        server.shutdown()


def test_the_built_in_world(
    built_in_world: tuple[Path, Operations], model: Path, toy_clip: dict[str, str], tmp_path: Path
) -> None:
    world, operations = built_in_world
    values = {"world": str(world), "janus": str(model), "clip": "unused"}
    written = load_spec(ROOT / "demo/corpora/shapes-stage2.toml", values).model_dump()
    written["signals"] = {"caption_score": toy_clip}
    written["sources"] = [source for source in written["sources"] if source["task"] == "generation"]
    least = 0.0  # about half of the captions, for a model of random weights
    for source in written["sources"]:
        if source["filters"]:
            source["filters"]["caption_score"]["min"] = least
    snapshot = build(CorpusSpec.model_validate(written), tmp_path / "c", operations)
    found = [*rows(tmp_path / "c", snapshot)]
    scores = scores_by_hand(toy_clip, [row.image for row in found], [row.caption for row in found])
    score = {row.uid: round(value, 4) for row, value in zip(found, scores, strict=True)}

    def passes(row: Candidate) -> bool:
        return min(row.image.size) >= 32 and score[row.uid] >= least

    assert kept(tmp_path / "c", snapshot) == expected(found, {"captions": passes}, radius=0)
    assert snapshot.funnel["captions"].keys() > {"kept", "bad_image", "http_gone", "low_score", "duplicate_exact"}
