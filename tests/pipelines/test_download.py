"""The download step: outcomes per row, provenance, and retries of what may come back."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import ledger
from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import Snapshot, load_snapshot
from schemas.reasons import Outcome
from schemas.spec import CorpusSpec, Operations
from tests.pipelines.world import contents, image_folder, spec


class Handler(http.server.SimpleHTTPRequestHandler):
    """A folder of images behind a server that can be told to be down."""

    down: frozenset[str] = frozenset()

    def do_GET(self) -> None:
        if self.path in type(self).down:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[type[Handler], Operations]]:
    image_folder(tmp_path / "http", list(range(6)))
    handler = type("Handler", (Handler,), {})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path / "http"))
    ) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        resolve = {"pictures.test:80": f"127.0.0.1:{running.server_address[1]}"}
        yield handler, Operations(resolve=resolve, retries=0)
        running.shutdown()


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> CorpusSpec:
    rows = [{"url": f"http://pictures.test/{n}.jpg", "caption": f"Picture {n}."} for n in [*range(6), "gone"]]
    (tmp_path / "urls.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    source = {"name": "web", "format": "url_list", "path": str(tmp_path / "urls.jsonl"), "task": "generation"}
    return spec(model, [source], max_failed_share=0.9)


def raw(corpus: Path, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Rows of the raw layer by their caption."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in snapshot.shards:
        for row in ledger.open_input(corpus, entry.upstream["raw"])[1].table().to_pylist():
            rows[row["messages"][0]["text"]] = row
    return rows


def test_bytes_and_provenance_are_kept(
    server: tuple[type[Handler], Operations], settings: CorpusSpec, tmp_path: Path
) -> None:
    snapshot = build(settings, tmp_path / "c", server[1])
    assert snapshot.funnel["web"] == {"rows": 7, "kept": 6, Outcome.HTTP_GONE: 1}
    rows = raw(tmp_path / "c", snapshot)
    for number in range(6):
        (image,) = rows[f"Picture {number}."]["images"]
        data = (tmp_path / "http" / f"{number}.jpg").read_bytes()
        assert image["bytes"] == data
        assert image["sha256"] == hashlib.sha256(data).digest()
        assert (image["url"], image["http_status"]) == (f"http://pictures.test/{number}.jpg", 200)
    gone = rows["Picture gone."]
    assert (gone["outcome"], gone["images"][0]["bytes"], gone["images"][0]["http_status"]) == ("http_gone", None, 404)


def test_only_transient_failures_are_tried_again_and_only_if_asked(
    server: tuple[type[Handler], Operations], settings: CorpusSpec, tmp_path: Path
) -> None:
    handler, operations = server
    again = operations.model_copy(update={"retry_transient": True})
    corpus = tmp_path / "c"
    handler.down = frozenset({"/1.jpg", "/2.jpg"})
    first = build(settings, corpus, operations)
    assert first.funnel["web"] == {"rows": 7, "kept": 4, Outcome.HTTP_GONE: 1, Outcome.HTTP_SERVER_ERROR: 2}

    before = contents(corpus)
    assert build(settings, corpus, again) == first, "nothing came back: the first attempt stands"
    assert contents(corpus) == before

    handler.down = frozenset({"/2.jpg", "/3.jpg"})
    assert build(settings, corpus, operations) == first, "not asked"
    second = build(settings, corpus, again)
    assert second.funnel["web"] == {"rows": 7, "kept": 5, Outcome.HTTP_GONE: 1, Outcome.HTTP_SERVER_ERROR: 1}
    assert raw(corpus, second)["Picture 3."] == raw(corpus, first)["Picture 3."], "what was there is not fetched again"

    handler.down = frozenset()
    third = build(settings, corpus, again.model_copy(update={"keep_last": 1}))
    assert third.funnel["web"] == {"rows": 7, "kept": 6, Outcome.HTTP_GONE: 1}
    assert verify(corpus).differences == ()
    assert build(settings, corpus, operations) == third, "the last attempt is found although earlier ones are deleted"
    assert load_snapshot(corpus) == third
