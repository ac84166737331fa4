"""Captions: picked out of fields, cleaned up, joined from another file in memory that does not grow."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading import join as module
from pipelines.reading.captions import CLEAN
from pipelines.reading.gate import Gate
from pipelines.reading.join import Captions, Join
from pipelines.sources import SourceError
from tests.pictures import PICTURES


def captions(samples: list) -> list[str]:
    return [sample.messages[0].text for sample in samples]


def test_the_first_field_that_is_not_empty(write, read) -> None:
    rows = [
        {"url": "u", "a": None, "b": {"c": " deep "}},
        {"url": "u", "a": "flat", "b": {"c": "deep"}},
        {"url": "u", "a": " ", "b": {"c": None}},
        {"url": "u", "a": ["of a list", "second"], "b": None},
    ]
    path = write("a.jsonl", rows)
    assert captions(read("url_list", path, caption=["a", "b.c"])) == ["deep", "flat", "", "of a list"]
    assert captions(read("url_list", path, caption="b.c")) == ["deep", "deep", "", ""]


CLEANED = [
    (["url_decode"], "Row+of+buildings%2C+caf%C3%A9", "Row of buildings, café"),
    (["strip_prefix:This image displays:"], "This image displays: a dog.", "a dog."),
    (["strip_prefix:This image displays:"], "A dog. This image displays: no.", "A dog. This image displays: no."),
    (["strip_flags"], "a castle, at dusk --ar 16:9 --v 5 --no people", "a castle, at dusk"),
    (["strip_flags"], "--v 4 a well-known -- dash --stylize 750 castle --tile", "a well-known -- dash castle"),
    (["strip_flags"], "semi--detached house", "semi--detached house"),
    (["before:,"], "tench, Tinca tinca", "tench"),
    (["before:,"], "goldfish", "goldfish"),
    (["url_decode", "strip_prefix:A ", "before:."], "A+cat.+It+sleeps.", "cat"),
]


@pytest.mark.parametrize(("steps", "text", "expected"), CLEANED)
def test_clean_ups(write, read, steps: list[str], text: str, expected: str) -> None:
    path = write("a.jsonl", [{"url": "u", "caption": f" {text} "}])
    assert captions(read("url_list", path, clean=steps)) == [expected]


@pytest.mark.parametrize("step", ["lower", "before", "before:", "url_decode:x", "eval:1"])
def test_unknown_clean_ups_are_refused(write, read, step: str) -> None:
    with pytest.raises(SourceError, match=r"source test: options\.clean: .*(no clean-up|expected)"):
        read("url_list", write("a.jsonl", [{"url": "u", "caption": "c"}]), clean=[step])
    assert set(CLEAN) == {"url_decode", "strip_prefix", "strip_flags", "before"}


# --- joins

PAIRS = {f"key {n}": f"The caption of number {n}, très bien." for n in range(50)}


def captions_file(folder: Path, kind: str) -> Join:
    rows = [{"id": key, "words": text, "other": 1} for key, text in PAIRS.items()]
    random.Random(0).shuffle(rows)
    rows.append({"id": "key 3", "words": "a second one, which does not count", "other": 2})
    rows.append({"id": "key 99", "words": "", "other": 3})
    path = folder / f"captions.{kind}"
    join = Join(file=path.name, on="k", key="id", caption="words")
    match kind:
        case "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps({"info": {}, "annotations": rows}))
            join = join.model_copy(update={"rows": "annotations"})
        case "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case _:
            with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
                for row in rows:
                    data = row["words"].encode()
                    info = tarfile.TarInfo(f"./some/folder/{row['id']}.txt")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return join


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "tar", "tar.gz"])
def test_joins_of_every_kind(tmp_path: Path, kind: str) -> None:
    found = Captions(captions_file(tmp_path, kind), Gate(tmp_path), "s")
    assert {key: found.get(key) for key in PAIRS} == PAIRS
    assert [found.get(key) for key in ("key 99", "key 50", "", "key")] == [None] * 4


def test_parts_that_are_sorted_on_disk_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 400)  # 10 entries
    found = Captions(captions_file(tmp_path, "csv"), Gate(tmp_path), "s")
    assert {key: found.get(key) for key in PAIRS} == PAIRS


def test_two_keys_of_one_hash_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {key: number for number, key in enumerate(PAIRS)}
    monkeypatch.setattr(module, "_hash", lambda key: (7, numbers.get(key, 10**6)))
    found = Captions(captions_file(tmp_path, "csv"), Gate(tmp_path), "s")
    assert {key: found.get(key) for key in PAIRS} == PAIRS
    assert found.get("key 99") is None


def test_a_join_in_a_source(write, met, tmp_path: Path) -> None:
    write("captions.csv", "id,caption\na,One\nb,Two+words\n")
    write("a.jsonl", [{"url": f"http://{name}", "k": name} for name in "abcb"])
    join = {"file": "captions.csv", "on": "k", "key": "id"}
    options = {"files": ["a.jsonl"], "join": join, "clean": ["url_decode"]}
    samples, account = met("url_list", tmp_path, options=options)
    assert captions(samples) == ["One", "Two words", "Two words"]
    assert account.skipped == {"no_caption": 1}
    for key in "ab":
        write(f"pics/{key}.jpg", PICTURES["photo.jpg"])
    write("pics/captions.csv", "id,caption\na,One\n")
    options = {"join": {"file": "captions.csv", "key": "id"}}
    samples, account = met("image_folder", tmp_path / "pics", options=options)
    assert (captions(samples), account.skipped) == (["One"], {"no_caption": 1})


@pytest.mark.parametrize(
    ("join", "message"),
    [
        ({"file": "nope.csv"}, r"options\.join\.file: .*: no file matches nope\.csv"),
        ({"file": "../x.csv"}, r"no file matches"),
        ({"file": "captions.csv", "on": "k", "key": "number"}, r"captions\.csv: no column 'number'"),
        ({"file": "captions.csv", "on": "k", "key": "id", "caption": "text"}, r"captions\.csv: no column 'text'"),
        ({"file": "empty.csv", "on": "k", "key": "id"}, r"empty\.csv: no caption in it"),
        ({"file": "bad.csv", "on": "k", "key": "id"}, r"bad\.csv:2: not 2 fields"),
        ({"on": "k"}, r"options\.join\.file: Field required"),
        ({"file": "captions.csv", "on": "x", "key": "id"}, r"no field 'x'"),
    ],
)
def test_mistakes_in_a_join(write, met, tmp_path: Path, join: dict[str, str], message: str) -> None:
    write("captions.csv", "id,caption\na,One\n")
    write("empty.csv", "id,caption\n")
    write("bad.csv", "id,caption\n1,2,3\n")
    write("a.jsonl", [{"url": "http://a", "k": "a"}])
    with pytest.raises(SourceError, match=message):
        met("url_list", tmp_path, options={"files": ["a.jsonl"], "join": join}, max_unreadable=0)
