"""The shipped specs, whole: every data set in its published layout, pictures over HTTP, a toy model, a snapshot."""

from __future__ import annotations

import functools
import http.server
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import make_clip, make_model
from tests.sources.layouts import LAYOUTS, Fake
from tests.sources.test_layouts import ENTRIES, SPECS, shipped


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_a_shipped_spec_publishes_a_corpus(tmp_path: Path, spec: str) -> None:
    (tmp_path / "http").mkdir()
    found = {}
    for _, source, layout, _ in ENTRIES:
        names = {source.name: source for source in shipped(spec, tmp_path / "data").sources}
        if source.name in names and names[source.name].format == source.format and source.name not in found:
            dice = random.Random(f"{spec} {source.path}")  # entries that read the same set find the same
            found[source.name] = LAYOUTS[layout](Fake(tmp_path / "data", dice, served=tmp_path / "http", side=400))
    settings = toy(shipped(spec, tmp_path / "data"), tmp_path)
    handler = functools.partial(Quiet, directory=str(tmp_path / "http"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        resolve = {"pictures.test:80": f"127.0.0.1:{server.server_address[1]}"}
        snapshot = build(settings, tmp_path / "c", Operations(resolve=resolve, retries=0))
        server.shutdown()
    for name, expected in found.items():
        counts = snapshot.funnel[name]
        assert counts["rows"] == len(expected.texts) + sum(expected.failed.values()), name
        assert counts.get("missing_file", 0) == expected.missing, name
        assert sum(counts.values()) == 2 * counts["rows"], name
        assert snapshot.skipped.get(name, {}) == {k: v for k, v in expected.skipped.items() if v}, name
        assert not counts.keys() & {"tokenize_failed", "bad_row", "bad_image", "not_an_image", "connection"}, counts
    assert snapshot.rows() > 0
    assert verify(tmp_path / "c").differences == ()


def toy(settings: CorpusSpec, folder: Path) -> CorpusSpec:
    """The spec with a toy Janus and a toy scorer, which cannot tell what a picture shows."""
    content = settings.model_dump(mode="json", exclude_unset=True)
    content["models"]["janus"] = str(make_model(folder / "janus"))
    if "signals" in content:
        (folder / "clip").mkdir()
        content["signals"]["caption_score"] = make_clip(folder / "clip")
    for source in content["sources"]:
        if "caption_score" in source.get("filters", {}):
            source["filters"]["caption_score"]["min"] = -1
    return CorpusSpec.model_validate(content)
