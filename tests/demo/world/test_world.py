"""The world on disk: real layouts, the promised damage, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.world.prompts import HELD_OUT_TEXTS
from demo.world.scene import HELD_OUT_PAIRS, PAIRS
from demo.world.world import DAMAGE, SHARES, WorldConfig, write_world

SCENES = 1200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("worlds") / "world"
    assert write_world(out, WorldConfig(SCENES, seed=0, heldout=20))
    return out


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _strings(value: Any) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in _strings(child)]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    small = WorldConfig(120, seed=0, heldout=5)
    write_world(tmp_path / "one", small)
    write_world(tmp_path / "two", small)
    write_world(tmp_path / "three", WorldConfig(120, seed=1, heldout=5))
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")
    assert _digest(tmp_path / "one") != _digest(tmp_path / "three")


def test_a_finished_world_is_kept_and_another_replaces_it(tmp_path: Path) -> None:
    small = WorldConfig(60, seed=0, heldout=2)
    assert write_world(tmp_path / "w", small)
    assert not write_world(tmp_path / "w", small)
    assert write_world(tmp_path / "w", WorldConfig(60, seed=1, heldout=2))


def test_other_people_s_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(ValueError, match="not empty"):
        write_world(tmp_path, WorldConfig(60))
    assert (tmp_path / "thesis.txt").read_text() == "do not delete"


def test_an_unfinished_world_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from demo.world import heldout

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(heldout, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", WorldConfig(60, heldout=2))
    assert not (tmp_path / "w").exists()
    monkeypatch.undo()
    assert write_world(tmp_path / "w", WorldConfig(60, heldout=2))


def test_sources_have_their_shares(world: Path) -> None:
    rows = {
        "imagenet": len(list((world / "imagenet").glob("*/*.JPEG"))),
        "captions": len(_lines(world / "captions/urls.jsonl")),
        "sharegpt4v": len(json.loads((world / "sharegpt4v/captions.json").read_text())),
        "instruct": len(json.loads((world / "instruct/instruct.json").read_text())),
        "interleaved": len(_lines(world / "interleaved/docs.jsonl")),
        "text": len(_lines(world / "text/documents.jsonl")),
        "chat": len(_lines(world / "chat/chat.jsonl")),
    }
    assert rows == {name: round(share * SCENES) for name, share in SHARES.items()}


def test_class_folders_are_the_trained_pairs(world: Path) -> None:
    named = dict(line.split("\t") for line in (world / "imagenet/classes.tsv").read_text().splitlines())
    assert set(named.values()) == {" ".join(pair) for pair in PAIRS}
    assert {path.name for path in (world / "imagenet").iterdir() if path.is_dir()} <= set(named)


def test_damage_is_what_the_truth_says(world: Path) -> None:
    truth = {row["url"]: row for row in _lines(world / "truth.jsonl")}
    captions = {row["url"]: row["caption"] for row in _lines(world / "captions/urls.jsonl")}
    images = world / "http/images"

    def data(url: str) -> bytes:
        return (images / url.rsplit("/", 1)[1]).read_bytes()

    for url in captions:
        damage = truth[url]["damage"] if url in truth else None
        if damage == "dead_link":
            assert not (images / url.rsplit("/", 1)[1]).exists()
        elif damage == "corrupt":
            with pytest.raises((OSError, SyntaxError)):
                Image.open(io.BytesIO(data(url))).load()
        elif damage == "exact_duplicate":
            assert data(url) == data(truth[url]["of"])
        elif damage == "near_duplicate":
            one, two = (np.asarray(Image.open(io.BytesIO(data(u))), np.int16) for u in (url, truth[url]["of"]))
            assert data(url) != data(truth[url]["of"])
            assert np.abs(one - two).mean() < 12
        else:
            assert Image.open(io.BytesIO(data(url))).size == ((12, 12) if damage == "tiny" else (64, 64))


def test_damage_has_its_shares(world: Path) -> None:
    rows = round(SHARES["captions"] * SCENES)
    counts = Counter(row["damage"] for row in _lines(world / "truth.jsonl"))
    assert set(counts) == set(DAMAGE)
    for damage, share in DAMAGE.items():
        assert abs(counts[damage] - rows * share) < 4 * (rows * share) ** 0.5


def test_nothing_held_out_is_in_the_training_files(world: Path) -> None:
    texts = [row["caption"] for row in _lines(world / "captions/urls.jsonl")]
    texts += [row["text"] for row in _lines(world / "text/documents.jsonl")]
    texts += [part for row in _lines(world / "interleaved/docs.jsonl") for part in _strings(row)]
    texts += [m["content"] for row in _lines(world / "chat/chat.jsonl") for m in row["messages"]]
    for name in ("sharegpt4v/captions.json", "instruct/instruct.json"):
        for record in json.loads((world / name).read_text()):
            texts += [turn["value"].removeprefix("<image>\n") for turn in record["conversations"]]
    pairs = [f"{color} {shape}" for color, shape in HELD_OUT_PAIRS]
    assert len(texts) > 3 * SCENES
    for text in texts:
        assert not {part.strip() for part in text.split(".")} & HELD_OUT_TEXTS, text
        assert not any(pair in text for pair in pairs), text


def test_held_out_questions_are_balanced_and_answerable(world: Path) -> None:
    pope = _lines(world / "heldout/pope.jsonl")
    labels = Counter((row["category"], row["label"]) for row in pope)
    assert set(labels.values()) == {20}  # a yes and a no per picture in each of three categories
    scenes = {row["image"]: row for row in _lines(world / "heldout/scenes.jsonl")}
    for row in pope:
        shown = {f"{o['color']} {o['shape']}" for o in scenes[row["image"]]["objects"]}
        asked = row["text"].removeprefix("is there a ").removesuffix("?")
        assert (row["label"] == "yes") == (asked in shown)
    for row in _lines(world / "heldout/choice.jsonl"):
        assert row["answer"] in "ABCD"
        assert f"{row['answer']} {row['choices']['ABCD'.index(row['answer'])]}" in row["text"]
        assert (world / "heldout" / row["image"]).is_file()
