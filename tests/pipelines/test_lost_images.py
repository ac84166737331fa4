"""Pages that lose an image: with drop_image none is lost that still has text, and every lost image is on record."""

from __future__ import annotations

import functools
import http.server
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines import ledger
from pipelines.build import build
from pipelines.engine import StepFailed
from pipelines.steps.lost_images import without_marks
from pipelines.verify import verify
from schemas.spec import Operations
from tests.pipelines.world import image_folder, spec

PAGES = 40


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[Operations]:
    image_folder(tmp_path / "http", list(range(PAGES * 5)))
    handler = functools.partial(Quiet, directory=str(tmp_path / "http"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Operations(resolve={"pictures.test:80": f"127.0.0.1:{running.server_address[1]}"}, retries=0)
        running.shutdown()


def pages(path: Path, share: float) -> list[list[bool]]:
    """An MMC4 file of pages with 3 to 5 images, of which `share` of all are dead; which images live."""
    dice = random.Random(share)
    lines, alive = [], []
    for page in range(PAGES):
        count = dice.randint(3, 5)
        lives = [dice.random() >= share for _ in range(count)]
        alive.append(lives)
        infos = [
            {"raw_url": f"http://pictures.test/{page * 5 + n if live else 'gone'}.jpg", "matched_text_index": n}
            for n, live in enumerate(lives)
        ]
        row = {"text_list": [f"Sentence {n} of page {page}." for n in range(count)], "image_info": infos}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return alive


@pytest.mark.parametrize("share", [0.05, 0.15, 0.30])
def test_no_page_is_lost_that_still_has_text(model: Path, tmp_path: Path, operations: Operations, share: float) -> None:
    alive = pages(tmp_path / "pages.jsonl", share)
    lost = sum(live.count(False) for live in alive)
    assert lost
    source = {"name": "pages", "format": "interleaved", "path": str(tmp_path / "pages.jsonl"), "task": "understanding"}
    kept_whole = sum(all(live) for live in alive)
    strict = build(spec(model, [source], max_failed_share=1, shard_rows=64), tmp_path / "strict", operations)
    assert strict.funnel["pages"] == {"rows": PAGES, "kept": kept_whole, "http_gone": PAGES - kept_whole}
    settings = spec(model, [source | {"missing_image": "drop_image"}], shard_rows=64)
    snapshot = build(settings, tmp_path / "c", operations)
    assert snapshot.funnel["pages"] == {"rows": PAGES, "kept": PAGES}
    [entry] = snapshot.shards
    rows = ledger.open_input(tmp_path / "c", entry.upstream["raw"])[1].table().to_pylist()
    assert sum(len(row["lost_images"]) for row in rows) == lost
    assert all(image == {"url": "http://pictures.test/gone.jpg", "outcome": "http_gone"}
               for row in rows for image in row["lost_images"])  # fmt: skip
    for row in rows:
        [message] = row["messages"]
        page = int(message["text"].split("page ")[1].split(".")[0])
        marks = [f"{'<image> ' * live}Sentence {n} of page {page}." for n, live in enumerate(alive[page])]
        assert message["text"] == " ".join(marks)
        assert len(row["images"]) == sum(alive[page])
    assert not verify(tmp_path / "c").differences


def test_an_outage_is_not_a_corpus_of_text(model: Path, tmp_path: Path, operations: Operations) -> None:
    pages(tmp_path / "pages.jsonl", 0.9)
    source = {"name": "pages", "format": "interleaved", "path": str(tmp_path / "pages.jsonl"), "task": "understanding"}
    with pytest.raises(StepFailed, match=r"images were lost, more than max_failed_share = 0\.5; not committed"):
        build(spec(model, [source | {"missing_image": "drop_image"}], shard_rows=64), tmp_path / "c", operations)


@pytest.mark.parametrize(
    ("texts", "keep", "left"),
    [
        (["<image> First. <image> Second."], [False, True], ["First. <image> Second."]),
        (["<image> First. <image> Second."], [True, False], ["<image> First. Second."]),
        (["A\n\n<image>\n\nB"], [False], ["A\n\nB"]),
        (["<image>\nWhat?", "That."], [False], ["What?", "That."]),
        (["<image><image> x"], [True, False], ["<image> x"]),
        (["one<image>two"], [False], ["onetwo"]),
        (["<image> <image>"], [False, False], None),
        (["<image> "], [True], None),
        (["text"], [False], None),
        (["<image> text <image>"], [False], None),
    ],
)
def test_marks_are_taken_out_with_one_space(texts: list[str], keep: list[bool], left: list[str] | None) -> None:
    found = without_marks([{"role": "document", "text": text} for text in texts], keep)
    assert (found and [message["text"] for message in found]) == left
