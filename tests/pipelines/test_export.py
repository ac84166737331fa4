"""A snapshot goes out, and the same rows come back through `datasets` and through our own readers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import build
from pipelines.export.__main__ import Export, _push, export, main
from pipelines.sources import read_source
from schemas.spec import Operations, Source
from tests.pipelines.world import folder_source, image_folder
from tests.pipelines.world import spec as make_spec

CAPTIONS = "task = 'generation'"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def corpus(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions (one of them dropped), a chat about two pictures, and a text; the names of data are hostile."""
    root = tmp_path_factory.mktemp("export")
    image_folder(root / "photos", list("abcdefghi"))
    rows = [json.loads(line) for line in (root / "photos" / "captions.jsonl").read_text().splitlines()]
    rows[0]["caption"] = "x"
    rows[1]["caption"] = "A <b>bold</b> | caption, \x1b[31m red."
    (root / "photos" / "captions.jsonl").write_text("".join(json.dumps(row | {"score": 0.5}) + "\n" for row in rows))
    turns = [{"from": "human", "value": "<image><image>Which?"}, {"from": "gpt", "value": "Both."}]
    chat = {"image": ["a.jpg", "b.jpg"], "conversations": turns}
    (root / "photos" / "chat.json").write_text(json.dumps([chat]))
    (root / "texts.jsonl").write_text(json.dumps({"text": "A document of its own."}) + "\n")
    licence = "CC BY <script>|x"
    sources = [
        folder_source(
            root / "photos", licence=licence, columns=["score"], filters={"caption_length": {"min_chars": 2}}
        ),
        {"name": "chat", "format": "llava", "path": str(root / "photos" / "chat.json"), "task": "understanding"}
        | {"template": "chat"},
        {"name": "texts", "format": "text", "path": str(root / "texts.jsonl"), "task": "text"},
    ]
    build(make_spec(model, sources, stage=3, dedup={"near_radius": None}), root / "corpus", Operations())
    return root / "corpus"


def pictures(corpus: Path) -> dict[bytes, str]:
    """Bytes of the pictures of the source to their captions."""
    folder = corpus.parent / "photos"
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    return {(folder / row["image"]).read_bytes(): row["caption"] for row in lines}


def test_load_dataset_gives_the_rows_of_the_snapshot(corpus: Path, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "out"
    assert export(Export(str(corpus), "huggingface", out)) == 10
    found = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["images"] == datasets.List(datasets.Image())
    raw = found.cast_column("images", datasets.List(datasets.Image(decode=False))).to_list()
    expected = pictures(corpus)
    assert {row["images"][0]["bytes"]: row["caption"] for row in raw if row["task"] == "generation"} == {
        data: caption for data, caption in expected.items() if caption != "x"
    }
    (chat,) = (row for row in raw if row["task"] == "understanding")
    assert [image["bytes"] for image in chat["images"]] == list(expected)[:2]
    assert [turn["content"] for turn in chat["messages"]] == ["<image><image>Which?", "Both."]
    (text,) = (row for row in raw if row["task"] == "text")
    assert (text["text"], text["images"], text["messages"], text["caption"]) == (
        "A document of its own.",
        [],
        None,
        None,
    )
    photo = next(row for row in raw if row["task"] == "generation")
    assert json.loads(photo["columns"]) == {"score": 0.5}
    assert (photo["source"], photo["licence"], photo["signals"]["image"]["width"]) == ("photos", "CC BY <script>|x", 48)
    decoded = next(row for row in found if row["task"] == "generation")["images"][0]
    assert decoded.size == (48, 40)
    # Our own source reads it too, and a picture keeps its identity.
    options: dict[str, Any] = {"image": "images", "caption": "caption"}
    source = Source(name="s", format="huggingface", path=str(out), task="generation", options=options, where=CAPTIONS)
    assert {sample.uid.hex() for sample in read_source(source)} == {r["uid"] for r in raw if r["task"] == "generation"}
    card = (out / "README.md").read_text()
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "| photos | image\\_folder |  | generation | 9 | 8 |" in card
    assert "| photos | dropped | caption\\_length | 1 |" in card


def test_files_rotate_and_are_the_same_again(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr("pipelines.export.tables.GROUP_ROWS", 3)
    for name in ("one", "two"):
        export(Export(str(corpus), "parquet", tmp_path / name, file_megabytes=0))
    files = sorted((tmp_path / "one" / "data").iterdir())
    assert [path.name for path in files] == [f"train-{n:05d}-of-00004.parquet" for n in range(4)]
    assert [pq.read_metadata(path).num_rows for path in files] == [3, 3, 3, 1]
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted((tmp_path / "two/data").iterdir())
    ]


def test_our_own_reader_opens_the_tars(corpus: Path, tmp_path: Path) -> None:
    export(Export(str(corpus), "webdataset", tmp_path / "out"))
    fields: dict[str, Any] = {"where": "json.task = 'generation'", "columns": ("json.uid", "json.source")}
    source = Source(name="s", format="webdataset", path=str(tmp_path / "out"), task="generation", **fields)
    samples = list(read_source(source))
    assert sorted(sample.messages[0].text for sample in samples) == sorted(
        v for v in pictures(corpus).values() if v != "x"
    )
    assert all(sample.uid.hex() == sample.columns["json.uid"] for sample in samples)


@pytest.mark.slow
def test_a_kill_leaves_nothing_under_the_name_and_the_next_run_ends_well(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, signal, sys; from pathlib import Path; from pipelines.export.__main__ import Export, export\n"
        "Path.rename = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "export(Export(sys.argv[1], 'parquet', Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus), str(out)], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-out"]
    export(Export(str(corpus), "parquet", out))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_mistakes_are_one_line(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    words = [str(corpus), "--to", "parquet", "--out", str(tmp_path / "there")]
    for more, message in {(): "there already", ("--file-megabytes", "0"): "expected at least 1"}.items():
        monkeypatch.setattr(sys, "argv", ["export", *words, *more])
        with pytest.raises((ValueError, FileExistsError), match=message):
            main()
    monkeypatch.setattr(sys, "argv", ["export", *words[:-1], str(tmp_path / "new"), "--push", "a/b/c"])
    with pytest.raises(ValueError, match="--push a/b/c: "):
        main()
    with pytest.raises(FileNotFoundError, match=r"'7' does not name one snapshot; there is 00001-"):
        export(Export(str(corpus), "parquet", tmp_path / "new", snapshot="7"))
    assert os.environ["HF_HUB_OFFLINE"]
    with pytest.raises(ValueError, match="is whole, push it with: hf upload") as caught:
        _push(tmp_path / "there", "owner/name")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()
