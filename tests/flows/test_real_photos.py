"""The examples on real photos: a folder with captions, an ImageNet-style folder, and training on what comes out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.manifest import load_snapshot

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Janus folder of random weights."""
    from janus.model.checkpoints.model_folder import save_janus
    from tests.model.toy import toy_janus

    folder = tmp_path_factory.mktemp("toy") / "janus"
    save_janus(folder, *toy_janus())
    return folder


def command(*words: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_photo_folder_becomes_a_corpus_and_trains(shared_data: Path, toy: Path, tmp_path: Path) -> None:
    coco = shared_data / "photos" / "coco"
    # This folder calls the field `captions` and lists several: the example with one option more.
    example = (EXAMPLES / "photo-folder.toml").read_text()
    spec = tmp_path / "photo-folder.toml"
    spec.write_text(example.replace('path = "{photos}"', 'path = "{photos}"\noptions = { caption = "captions" }'))
    settings = ["--set", f"photos={coco}", f"janus={toy}"]
    command("flows.corpus", "build", str(spec), "--out", "corpora", *settings, cwd=tmp_path)
    corpus = tmp_path / "corpora" / "photo-folder"
    snapshot = load_snapshot(corpus)
    photos = len((coco / "captions.jsonl").read_text().splitlines())
    assert {source: counts["rows"] for source, counts in snapshot.funnel.items()} == {
        "photos-described": photos,
        "photos-drawn": photos,
    }
    assert snapshot.funnel["photos-described"]["kept"] == photos
    assert snapshot.funnel["photos-drawn"]["kept"] >= 0.9 * photos

    words = ["--stage", "2", "--preset", "tiny", "--model", str(toy), "--data", str(corpus), "--out", "run"]
    words += ["--steps", "20", "--data.ratio", "1", "0", "1", "--data.first-group", "", "--watch.log-every", "1"]
    command("janus.train", *words, cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"]["all"] for line in lines]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


def test_an_imagenet_folder_becomes_a_corpus(shared_data: Path, toy: Path, tmp_path: Path) -> None:
    names = [line.split("\t") for line in (shared_data / "photos/imagenet/labels.tsv").read_text().splitlines()[1:]]
    folder = tmp_path / "imagenet"
    for file, wnid, _ in names:
        (folder / wnid).mkdir(parents=True)
        shutil.copy(shared_data / "photos/imagenet" / file, folder / wnid / file)
    (folder / "classes.tsv").write_text("".join(f"{wnid}\t{name}\n" for _, wnid, name in names))
    settings = ["--set", f"imagenet={folder}", f"janus={toy}"]
    said = command("flows.corpus", "build", str(EXAMPLES / "imagenet-folder.toml"), *settings, cwd=tmp_path)
    snapshot = load_snapshot(tmp_path / "runs" / "corpora" / "imagenet-folder")
    assert snapshot.funnel["imagenet"] == {"rows": len(names), "kept": len(names)}
    assert f"{len(names)} of {len(names)} rows kept" in said
    assert [(shard.task, shard.group) for shard in snapshot.shards] == [("generation", "imagenet")]
