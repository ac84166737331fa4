"""Conversations, chats, plain text and interleaved pages."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.text import cut
from schemas.reasons import UNREADABLE
from tests.pictures import PICTURES
from tests.sources.reading import read_image

PHOTO = PICTURES["photo.jpg"]


def turns(sample) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in sample.messages]


# --- llava


def test_llava_demo(shared_data: Path, read) -> None:
    path = shared_data / "text" / "llava_style" / "mllm_demo.json"
    expected = json.loads(path.read_text())
    samples = read("llava", path, "understanding")
    assert [turns(s) for s in samples] == [[(m["role"], m["content"]) for m in row["messages"]] for row in expected]
    assert [[image.path for image in s.images] for s in samples] == [row["images"] for row in expected]
    assert all(image.sha256 for s in samples for image in s.images)


MIXTURE = [
    {
        "id": "1",
        "image": "coco/1.jpg",
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A photo."}],
    },
    {"id": "2", "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}]},
    {"id": "3", "image": ["coco/1.jpg", "http://a/b.jpg"], "messages": [{"role": "user", "content": "<image><image>"}]},
]


def test_a_mixture_is_two_sources_and_no_row_is_lost(write, tmp_path: Path, read) -> None:
    write("data/coco/1.jpg", PHOTO)
    write("mix.json", json.dumps(MIXTURE))
    visual = read("llava", tmp_path, "understanding", files=["mix.json"], images="data")
    text = read("llava", tmp_path, "text", files=["mix.json"])
    assert [s.key for s in visual] == ["mix.json[0]", "mix.json[2]"]
    assert [s.key for s in text] == ["mix.json[1]"]
    assert turns(text[0]) == [("system", "Be kind."), ("user", "Hi")]
    assert visual[0].images[0].path == "data/coco/1.jpg"
    assert [image.url for image in visual[1].images] == [None, "http://a/b.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a.jpg", "conversations": []}, r"conversations: the list of turns is empty"),
        ({"image": "a.jpg"}, r"no field 'messages'"),
        ({"image": "a.jpg", "conversations": ["hi"]}, r"conversations\[0\]: expected an object"),
        ({"image": "a.jpg", "conversations": [{"from": "narrator", "value": ""}]}, r"unknown speaker 'narrator'"),
        ({"image": "a.jpg", "conversations": [{"from": "gpt", "value": 3}]}, r"text: expected a string, found 3"),
        (
            {"image": 3, "conversations": [{"from": "gpt", "value": ""}]},
            r"image: expected an image, its address or its path, found 3",
        ),
        ({"image": "/a.jpg", "conversations": [{"from": "gpt", "value": ""}]}, r"must be relative"),
    ],
)
def test_llava_errors_name_file_and_row(write, met, row: dict, message: str) -> None:
    path = write("mix.json", json.dumps([MIXTURE[0], row]))
    samples, account = met("llava", path, "understanding")
    assert [(s.key, s.outcome.value in UNREADABLE) for s in samples] == [("mix.json[0]", False), ("mix.json[1]", True)]
    [[found]] = account.examples.values()
    assert re.search(r"mix\.json\[1\]: .*" + message, found)


def test_llava_onevision_parquet(tmp_path: Path, read) -> None:
    turns_of = [[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A photo."}]] * 2
    table = {"id": ["a", "b"], "image": [{"bytes": PHOTO, "path": None}, None], "conversations": turns_of}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    [sample] = read("llava", tmp_path, "understanding")
    assert turns(sample) == [("user", "<image>\nWhat?"), ("assistant", "A photo.")]
    assert read_image(sample.images[0], tmp_path) == PHOTO
    assert [s.key for s in read("llava", tmp_path, "text")] == ["train.parquet:1"]


# --- sharegpt4v


def test_sharegpt4v_keeps_the_answer_as_caption(write, tmp_path: Path, read, met) -> None:
    write("sa/1.jpg", PHOTO)
    path = write("sharegpt4v.json", json.dumps([{**MIXTURE[0], "image": "sa/1.jpg"}]))
    [sample] = read("sharegpt4v", path, "understanding")
    assert turns(sample) == [("caption", "A photo.")]
    assert sample.images[0].path == "sa/1.jpg"
    path = write("more.json", json.dumps(MIXTURE[:2]))
    samples, account = met("sharegpt4v", path, "understanding")
    assert [s.outcome for s in samples] == ["ok", "bad_row"]
    assert "more.json[1]: expected one image, one question and one answer" in account.examples["bad_row"][0]


# --- chat


def test_real_chats(shared_data: Path, read) -> None:
    path = shared_data / "text" / "sft_chat.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    samples = read("chat", path, "text")
    assert [turns(s) for s in samples] == [
        [(m["role"], "".join(part["value"] for part in m["content"])) for m in row["messages"]] for row in rows
    ]


def test_chat_refuses_parts_that_are_no_text(write, met) -> None:
    content = [{"type": "image_url", "image_url": "http://a"}]
    path = write("a.jsonl", [{"messages": [{"role": "user", "content": content}]}])
    _, account = met("chat", path, "text")
    assert "a.jsonl:1: messages[0]: expected parts of type text" in account.examples["bad_row"][0]


# --- text


def test_real_pages_are_whole_again_when_joined(shared_data: Path, read) -> None:
    path = shared_data / "text" / "c4_150.jsonl"
    rows = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    samples = read("text", path, "text", max_chars=1000)
    pages: dict[str, str] = {}
    for sample in samples:
        [(role, text)] = turns(sample)
        assert role == "document"
        assert 0 < len(text) <= 1000
        page = sample.key.partition("#")[0]
        pages[page] = pages.get(page, "") + text
    assert list(pages.values()) == rows


def test_text_formats_agree(write, tmp_path: Path, read) -> None:
    texts = ["one", "two\nlines"]
    rows = "".join(json.dumps({"body": text}) + "\n" for text in texts)
    write("a.jsonl", rows)
    write("b.json.gz", gzip.compress(rows.encode()))
    pq.write_table(pa.table({"body": texts}), tmp_path / "c.parquet")
    write("d.txt", "three")
    samples = read("text", tmp_path, "text", column="body")
    assert [turns(s)[0][1] for s in samples] == [*texts * 3, "three"]


def test_cut_prefers_blank_lines_then_lines_then_words() -> None:
    assert cut("aaaa bbbb\ncccc\n\ndddd eeee", 20) == ["aaaa bbbb\ncccc\n\n", "dddd eeee"]
    assert cut("aaaa bbbb\ncccc dddd", 12) == ["aaaa bbbb\n", "cccc dddd"]
    assert cut("aaaa bbbb cccc", 10) == ["aaaa bbbb ", "cccc"]
    assert cut("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]
    assert cut("", 10) == [""]


# --- interleaved


def test_real_mmc4(shared_data: Path, read) -> None:
    path = shared_data / "text" / "interleaved_mmc4.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    samples = read("interleaved", path, "understanding")
    assert len(samples) == len(rows)
    for sample, row in zip(samples, rows, strict=True):
        [(role, text)] = turns(sample)
        assert role == "document"
        assert text.count("<image>") == len(sample.images) == len(row["image_info"])
        assert sorted(image.url for image in sample.images) == sorted(info["raw_url"] for info in row["image_info"])
        own = " ".join(row["text_list"]).replace("<image>", " ")
        assert text.replace("<image>", " ").split() == own.split()


def test_mmc4_puts_an_image_before_its_sentence(write, tmp_path: Path, read, met) -> None:
    infos = [
        {"image_name": "b.jpg", "raw_url": "http://x/b", "matched_text_index": 1},
        {"image_name": "a.jpg", "raw_url": "http://x/a", "matched_text_index": 0},
    ]
    path = write("docs.jsonl", [{"text_list": ["First.", "Second."], "image_info": infos}])
    write("pictures/a.jpg", PHOTO)
    [sample] = read("interleaved", path, "understanding")
    assert turns(sample) == [("document", "<image> First. <image> Second.")]
    assert [image.url for image in sample.images] == ["http://x/a", "http://x/b"]
    [sample] = read("interleaved", path, "understanding", images="pictures")
    assert [(image.path, bool(image.sha256)) for image in sample.images] == [
        ("pictures/a.jpg", True),
        ("pictures/b.jpg", False),
    ]
    path = write("bad.jsonl", [{"text_list": ["x"], "image_info": [{"matched_text_index": 1}]}])
    _, account = met("interleaved", path, "understanding")
    assert "bad.jsonl:1: image_info: expected objects with matched_text_index from 0" in account.examples["bad_row"][0]


def test_simple_pages(write, tmp_path: Path, read) -> None:
    write("img/1.jpg", PHOTO)
    write("docs.jsonl", [{"text": "Mix <image> and bake. <image>", "images": ["1.jpg", "https://x/2.jpg"]}])
    [sample] = read("interleaved", tmp_path, "understanding", files=["docs.jsonl"], images="img")
    assert turns(sample) == [("document", "Mix <image> and bake. <image>")]
    assert [(image.path, image.url) for image in sample.images] == [("img/1.jpg", None), (None, "https://x/2.jpg")]
