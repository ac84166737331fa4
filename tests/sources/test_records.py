"""Rows of JSON lines, JSON lists, CSV and Parquet: all of them, or one clear error, never fewer in silence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading import records as module
from pipelines.reading.records import Record, files_of, records
from pipelines.sources import SourceError
from schemas.spec import Source

ROWS = [
    {"text": "a"},
    {"text": 'quote " and ] and , and }'},
    {"text": "", "more": [{"x": [1, 2, {}]}]},
    {"text": "é \n 漢"},
]


def rows(path: Path) -> list[dict]:
    return [record.data for record in records(path, path.parent)]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_list_equals_json_load_whatever_the_block(write, monkeypatch, chunk: int, indent: int | None) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    path = write("a.json", json.dumps(ROWS, indent=indent))
    assert rows(path) == json.loads(path.read_text())
    assert rows(write("empty.json", " [ ] ")) == []


def test_json_list_cut_anywhere_is_an_error(write) -> None:
    whole = json.dumps(ROWS)
    for end in range(len(whole)):
        with pytest.raises(SourceError, match=r"cut\.json.*(cut short|expected a JSON list)"):
            rows(write("cut.json", whole[:end]))


@pytest.mark.parametrize("text", ["[{}] more", "{}", "[1]", "[{} {}]", "[{},]", "[{}]]", "[{}}"])
def test_json_that_is_no_list_of_objects_is_an_error(write, text: str) -> None:
    with pytest.raises(SourceError, match=r"bad\.json"):
        rows(write("bad.json", text))


def test_json_lines_name_the_line(write) -> None:
    path = write("a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n{"text": "c')
    iterator = records(path, path.parent)
    assert [next(iterator).key, next(iterator).key] == ["a.jsonl:1", "a.jsonl:3"]  # lazily: the bad line comes later
    with pytest.raises(SourceError, match=r"a\.jsonl:4: not a JSON line .* cut short"):
        next(iterator)
    with pytest.raises(SourceError, match=r"b\.jsonl:1: expected a JSON object, found \[1\]"):
        rows(write("b.jsonl", "[1]\n"))


def test_gzip_and_byte_order_mark(write) -> None:
    path = write("a.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode()))
    assert rows(path) == ROWS[:1]
    with pytest.raises(SourceError, match="truncated gzip"):
        rows(write("b.jsonl.gz", path.read_bytes()[:-6]))
    with pytest.raises(SourceError, match="not UTF-8"):
        rows(write("c.jsonl", b'{"text": "\xff"}'))


def test_csv_checks_the_number_of_fields(write) -> None:
    path = write("a.csv", 'url,caption\nx,"two\nlines, one field"\ny,z\n')
    assert rows(path) == [{"url": "x", "caption": "two\nlines, one field"}, {"url": "y", "caption": "z"}]
    assert rows(write("a.tsv", "url\tcaption\na,b\tc\n")) == [{"url": "a,b", "caption": "c"}]
    for line in ("x", "x,y,z"):
        with pytest.raises(SourceError, match=r"b\.csv:2: not 2 fields"):
            rows(write("b.csv", f"url,caption\n{line}\n"))
    with pytest.raises(SourceError, match=r"c\.csv"):
        rows(write("c.csv", 'url,caption\nx,"never closed\n'))


def test_parquet_columns_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": ["x", None], "size": [1, 2]}), path)
    found = list(records(path, tmp_path, ["url"]))
    assert [(record.key, record.data) for record in found] == [
        ("a.parquet:0", {"url": "x"}),
        ("a.parquet:1", {"url": None}),
    ]
    assert found[1].text("url") == ""
    with pytest.raises(SourceError, match=r"a\.parquet: no column 'caption' \(columns: url, size\)"):
        list(records(path, tmp_path, ["caption"]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.parquet: not a readable Parquet file"):
        list(records(path, tmp_path))


def test_fields_are_checked() -> None:
    record = Record("file:3", "", {"a": 1, "b": None, "c": "lone \ud800 surrogate", "d": {}})
    assert record.text("b") == ""
    assert record.text("c") == "lone \ufffd surrogate"
    with pytest.raises(SourceError, match="file:3: a: expected a string, found 1"):
        record.text("a")
    with pytest.raises(SourceError, match=r"file:3: no field 'x' \(fields: a, b, c, d\)"):
        record.text("x")
    with pytest.raises(SourceError, match="file:3: d: expected a list"):
        record.items("d")


def test_files_come_in_order_of_their_paths(write, tmp_path: Path) -> None:
    for name in ("b/2.txt", "a.txt", "b/10.txt", "c/x.md", ".hidden/1.txt", "_tmp/1.txt", "b/.part.txt"):
        write(name, "")
    source = Source(name="s", format="text", path=str(tmp_path), task="text")
    names = [path.relative_to(tmp_path).as_posix() for path in files_of(source, (".txt",))]
    assert names == ["a.txt", "b/10.txt", "b/2.txt"]
    with pytest.raises(SourceError, match=r"no file ending in \.csv"):
        files_of(source, (".csv",))
