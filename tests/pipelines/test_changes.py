"""What changes at a source arrives: corrected captions and pictures replace the old row, removed rows go if told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import build
from pipelines.verify import verify
from schemas.manifest import Snapshot, load_snapshot
from schemas.spec import Operations
from tests.pipelines.world import contents, folder_source, image_folder, picture, spec


def write(root: Path, captions: dict[str, str]) -> None:
    """captions.jsonl of a folder of pictures."""
    lines = [json.dumps({"image": name, "caption": text}) for name, text in captions.items()]
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")


def captions(root: Path) -> dict[str, str]:
    lines = map(json.loads, (root / "captions.jsonl").read_text().splitlines())
    return {line["image"]: line["caption"] for line in lines}


class World:
    """A source of nine pictures, built once."""

    def __init__(self, root: Path, model: Path, **settings: Any) -> None:
        self.photos = image_folder(root / "photos", list(range(9)))
        self.corpus = root / "corpus"
        self.spec = spec(model, [folder_source(self.photos, **settings)], shard_rows=4)
        self.first = self.build()
        self.files = contents(self.corpus)

    def build(self, workers: int = 1) -> Snapshot:
        return build(self.spec, self.corpus, Operations(workers=workers))

    def refreshed(self, workers: int = 1) -> dict[str, int]:
        """Build again and check what must hold; the funnel of the source."""
        found = self.build(workers)
        report = verify(self.corpus)
        assert report.differences == ()
        old = {path: sha for path, sha in self.files.items() if not path.startswith(("LATEST", "readings"))}
        assert old.items() <= contents(self.corpus).items()  # nothing of an old snapshot was touched
        assert load_snapshot(self.corpus, self.first.name) == self.first
        assert self.build() == found  # a further build has nothing to do
        counts = dict(found.funnel["photos"])
        assert counts["rows"] == sum(counts.values()) - counts["rows"]
        return counts


def test_a_corrected_caption_replaces_the_row(model: Path, tmp_path: Path) -> None:
    world = World(tmp_path, model)
    texts = captions(world.photos)
    texts["3.jpg"] = "The corrected words of the third picture."
    write(world.photos, texts)
    assert world.refreshed() == {"rows": 10, "kept": 9, "updated": 1}


def test_a_changed_picture_replaces_the_row_and_a_restored_one_comes_back(model: Path, tmp_path: Path) -> None:
    world = World(tmp_path, model)
    before = (world.photos / "3.jpg").read_bytes()
    picture("another").save(world.photos / "3.jpg", quality=90)
    assert world.refreshed() == {"rows": 10, "kept": 9, "updated": 1}
    (world.photos / "3.jpg").write_bytes(before)
    assert world.refreshed() == {"rows": 10, "kept": 9, "updated": 1}


@pytest.mark.parametrize(
    ("on_removed", "counts"), [("keep", {"rows": 9, "kept": 9}), ("drop", {"rows": 9, "kept": 8, "removed": 1})]
)
def test_a_removed_row_follows_the_spec_and_lines_that_move_change_nothing(
    model: Path, tmp_path: Path, on_removed: str, counts: dict[str, int]
) -> None:
    world = World(tmp_path, model, on_removed=on_removed)
    texts = captions(world.photos)
    del texts["2.jpg"]  # all later lines have another number now
    write(world.photos, texts)
    assert world.refreshed() == counts


def test_a_row_that_cannot_be_read_any_more_replaces_nothing(model: Path, tmp_path: Path) -> None:
    world = World(tmp_path, model)
    (world.photos / "4.jpg").unlink()
    assert world.refreshed() == {"rows": 10, "kept": 9, "missing_file": 1}


def test_one_worker_and_two_give_the_same_versions_and_bytes(model: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        world = World(tmp_path / str(workers), model)
        write(world.photos, captions(world.photos) | {"0.jpg": "New words for the first one."})
        world.refreshed(workers)
        found.append(contents(world.corpus))
    assert found[0] == found[1]
