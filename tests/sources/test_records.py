"""Rows of JSON lines, JSON lists, CSV and Parquet: all of them, or one clear error, never fewer in silence."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path
from unittest.mock import ANY

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading import json_stream as module
from pipelines.reading import streams
from pipelines.reading.errors import RowError
from pipelines.reading.files import files_of
from pipelines.reading.gate import Gate
from pipelines.reading.limits import MAX_ROW
from pipelines.reading.options import FileOptions
from pipelines.reading.parquet import sizes
from pipelines.reading.records import Record
from pipelines.reading.tables import table_records
from pipelines.sources import SourceError
from schemas.reasons import Outcome
from schemas.spec import Source

ROWS = [
    {"text": "a"},
    {"text": 'quote " and ] and , and }'},
    {"text": "", "more": [{"x": [1, 2, {}]}]},
    {"text": "é \n 漢"},
]


def rows(path: Path, **options: str) -> list[dict]:
    """The rows of a file; a problem of one is raised."""
    found = []
    for record in table_records(path, Gate(path.parent), **options):
        assert isinstance(record, Record)
        if record.problem is not None:
            raise record.problem
        found.append(record.data)
    return found


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


BROKEN = ["[{}] more", "[1]", "3", '"x"', '{"a"}', '{"a": {}', "{'a': {}}", "[{} {}]", "[{},]", "[{}]]", "[{}}"]


@pytest.mark.parametrize("text", BROKEN)
def test_json_that_is_no_list_of_objects_is_an_error(write, text: str) -> None:
    with pytest.raises(SourceError, match=r"bad\.json"):
        rows(write("bad.json", text))


def test_json_lines_name_the_line(write) -> None:
    path = write("a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n{"text": "c')
    iterator = table_records(path, Gate(path.parent))
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
    found = list(table_records(path, Gate(tmp_path), ["url"]))
    assert [(record.key, record.data) for record in found] == [
        ("a.parquet:0", {"url": "x"}),
        ("a.parquet:1", {"url": None}),
    ]
    assert found[1].text("url") == ""
    with pytest.raises(SourceError, match=r"a\.parquet: no column 'caption' \(columns: url, size\)"):
        list(table_records(path, Gate(tmp_path), ["caption"]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.parquet: not a readable Parquet file"):
        list(table_records(path, Gate(tmp_path)))


def test_fields_are_checked() -> None:
    record = Record("file:3", "", {"a": 1, "b": None, "c": "lone \ud800 surrogate", "d": {}})
    assert record.text("b") == ""
    assert record.text("c") == "lone \ufffd surrogate"
    with pytest.raises(RowError, match="file:3: a: expected a string, found 1"):
        record.text("a")
    with pytest.raises(RowError, match=r"file:3: no field 'x' \(fields: a, b, c, d\)"):
        record.text("x")
    with pytest.raises(RowError, match="file:3: d: expected a list"):
        record.items("d")


def test_fields_in_fields() -> None:
    record = Record("f", "", {"Task2": {"Caption": "deep", "no": None}, "list": [{"x": 1}, {"x": 2}], "a.b": "flat"})
    assert record.get("Task2.Caption") == "deep"
    assert record.get("list.1.x") == 2
    assert record.get("a.b") == "flat"
    assert record.get("Task2.no.further") is None
    assert record.get("list.5.x") is None
    for wrong in ("Task2.caption", "list.x", "Task2.Caption.more"):
        with pytest.raises(RowError, match=f"no field '{wrong}'"):
            record.get(wrong)


def test_files_come_in_order_of_their_paths(write, tmp_path: Path) -> None:
    for name in ("b/2.txt", "a.txt", "b/10.txt", "c/x.md", ".hidden/1.txt", "_tmp/1.txt", "b/.part.txt"):
        write(name, "")
    source, gate = Source(name="s", format="text", path=str(tmp_path), task="text"), Gate(tmp_path)

    def names(suffixes: tuple[str, ...] = (".txt",), **options: list[str]) -> list[str]:
        return [gate.relative(path) for path in files_of(source, gate, suffixes, FileOptions(**options))]

    assert names() == ["a.txt", "b/10.txt", "b/2.txt"]
    assert names(exclude=["b"]) == ["a.txt"]
    assert names(exclude=["1*.txt"]) == ["a.txt", "b/2.txt"]
    assert names(files=["b/*"]) == ["b/10.txt", "b/2.txt"]
    assert names(files=["**/x.md", "a.txt"]) == ["a.txt", "c/x.md"]
    assert names(files=["?.txt"]) == ["a.txt", "b/2.txt"]
    with pytest.raises(SourceError, match=r"no file below this folder ends in \.csv"):
        names((".csv",))
    with pytest.raises(SourceError, match=r"no file below this folder matches z\*, y"):
        names(files=["z*", "y"])


# --- caps: a row over one is a failed row with its place, and the next one is read


def problems(path: Path) -> list[tuple[str, str | None, str]]:
    found = []
    for record in table_records(path, Gate(path.parent)):
        assert isinstance(record, Record)
        error = record.problem
        found.append((record.key, error.outcome.value if error else None, str(error) if error else ""))
    return found


LONG = "x" * (MAX_ROW + 10)
DEEP = "[" * 5000 + "]" * 5000
LEVELS = '{"a":' * 70 + "1" + "}" * 70
DIGITS = "9" * 5000
MANY = "[" + ",".join(["1"] * 1_000_001) + "]"
TOO_LARGE = {"long": f'"{LONG}"', "levels": LEVELS, "digits": DIGITS, "many": MANY, "deep": DEEP}
TOO_LARGE = {kind: f'{{"t": {value}}}' for kind, value in TOO_LARGE.items()}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_rows_over_a_cap_have_a_name_and_a_place(write, kind: str) -> None:
    row = TOO_LARGE[kind]
    assert problems(write("a.jsonl", f'{{"t": 1}}\n{row}\n{{"t": 2}}\n')) == [
        ("a.jsonl:1", None, ""),
        ("a.jsonl:2", "row_too_large", ANY),
        ("a.jsonl:3", None, ""),
    ]
    found = problems(write("a.json", f'[{{"t": 1}}, {row}, {{"t": 2}}]'))
    assert [(key, outcome) for key, outcome, _ in found] == [
        ("a.json[0]", None),
        ("a.json[1]", "row_too_large"),
        ("a.json[2]", None),
    ]
    assert "a.json[1]: " in found[1][2]


def test_csv_over_a_cap(write) -> None:
    longer = "x" * 200_000
    path = write("a.csv", f"url,text\n1,{longer}\n2,{LONG}\n3,c\n")
    assert [(key, outcome) for key, outcome, _ in problems(path)] == [
        ("a.csv:2", None),  # longer than the csv module's own limit
        ("a.csv:3", "row_too_large"),
        ("a.csv:4", None),
    ]
    with pytest.raises(SourceError, match=r"b\.csv: 10,001 columns, more than 10,000"):
        rows(write("b.csv", ",".join(f"c{n}" for n in range(10_001)) + "\n"))


def test_a_row_that_is_not_text_or_not_json_does_not_end_the_file(write) -> None:
    path = write("a.jsonl", b'{"t": 1}\n{"t": "\xff"}\nnope\n[1]\n{"t": 2}\n')
    assert [(key, outcome) for key, outcome, _ in problems(path)] == [
        ("a.jsonl:1", None),
        ("a.jsonl:2", "bad_row"),
        ("a.jsonl:3", "bad_row"),
        ("a.jsonl:4", "bad_row"),
        ("a.jsonl:5", None),
    ]
    path = write("a.json", '[{"t": 1}, {"t": tru}, {"t": "]}"}, {"t" 1}, {"t": 2}]')
    assert [outcome for _, outcome, _ in problems(path)] == [None, "bad_row", None, "bad_row", None]
    path = write("a.csv", b'url,text\n1,\xff\n2,"a"b\n3,c\n4\n5,e\n')
    assert [outcome for _, outcome, _ in problems(path)] == ["bad_row", "bad_row", None, "bad_row", None]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_a_broken_value_is_stepped_over_whatever_the_block(write, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    tricky = r"""{"a": "quote \" bracket ] backslash \\", "b": [nope, "\\\\"], "c": "}"}"""
    path = write("a.json", f'[{{"t": 1}}, {tricky}, {{"t": 2}}]')
    assert [outcome for _, outcome, _ in problems(path)] == [None, "bad_row", None]


# --- shapes of .json files


def test_json_objects_of_rows(write) -> None:
    path = write("a.json", json.dumps({"7": {"q": "a"}, "8": {"q": "b"}}))
    assert rows(path) == [{"__key__": "7", "q": "a"}, {"__key__": "8", "q": "b"}]
    whole = {"info": {"x": ["]", {"}": 1}]}, "version": 2.5, "questions": [{"q": "a"}], "more": 1}
    path = write("b.json", json.dumps(whole))
    assert rows(path, rows="questions") == [{"q": "a"}]
    with pytest.raises(SourceError, match=r"b\.json: no field 'answers' \(fields: info, version, questions, more\)"):
        rows(path, rows="answers")
    with pytest.raises(SourceError, match=r"b\.json: expected a JSON list"):
        rows(path, rows="info")


# --- compressed files


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    if name.endswith(".zst"):
        return pa.compress(data, "zstd", asbytes=True)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name.removesuffix(".zip"), data)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
@pytest.mark.parametrize("suffix", ["gz", "zst", "zip"])
def test_compressed_files_agree(write, kind: str, suffix: str) -> None:
    text = {"jsonl": '{"a": "1"}\n', "json": '[{"a": "1"}]', "csv": "a\n1\n", "tsv": "a\n1\n"}[kind].encode()
    name = f"x.{kind}.{suffix}"
    path = write(name, packed(name, text))
    assert rows(path) == [{"a": "1"}]
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 5):
        with pytest.raises(SourceError, match=rf"cut\.{kind}\.{suffix}: "):
            rows(write(f"cut.{kind}.{suffix}", whole[:cut]))


def test_a_file_that_grows_without_end_is_given_up(write, monkeypatch) -> None:
    monkeypatch.setattr(streams, "FREE_EXPANSION", 1 << 20)
    monkeypatch.setattr(streams, "MAX_RATIO", 10)
    data = b'{"a": "1"}\n' * 1_000_000
    for suffix in ("gz", "zst", "zip"):
        with pytest.raises(SourceError, match=r"becomes more than 10 times as large"):
            rows(write(f"a.jsonl.{suffix}", packed(f"a.jsonl.{suffix}", data)))


def test_members_of_a_zip_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("b.jsonl", "../a.jsonl"):
            archive.writestr(name, json.dumps({"from": name}) + "\n")
    found = list(table_records(tmp_path / "a.zip", Gate(tmp_path)))
    assert [record.data["from"] for record in found] == ["../a.jsonl", "b.jsonl"]


# --- Parquet that holds much in little


def test_a_dictionary_that_would_fill_the_memory(tmp_path: Path) -> None:
    """2,000 rows of one value of 1 MB, in a file of some KB; and one row of which the text is over the cap."""
    value = "x" * 1_000_000
    numbers = pa.array([0] * 2000, pa.int32())
    table = pa.table({"t": pa.DictionaryArray.from_arrays(numbers, [value]), "n": list(range(2000))})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    before = pa.total_allocated_bytes()
    for number, record in enumerate(table_records(tmp_path / "a.parquet", Gate(tmp_path), ["t", "n"])):
        assert record.data == {"t": value, "n": number}
        assert pa.total_allocated_bytes() - before < 100 << 20
    assert number == 1999
    lists = pa.array([["x"], [value] * 20, ["y"]])
    pq.write_table(pa.table({"t": lists}), tmp_path / "b.parquet", compression="zstd")
    found = list(table_records(tmp_path / "b.parquet", Gate(tmp_path)))
    assert [record.problem and record.problem.outcome for record in found] == [None, Outcome.ROW_TOO_LARGE, None]
    assert "b.parquet row 1: more than" in str(found[1].problem)


def test_sizes_equal_what_the_rows_become(tmp_path: Path) -> None:
    kinds = [
        pa.array(["ab", None, "c"]),
        pa.array(["ab", None, "c"]).dictionary_encode(),
        pa.array([b"ab", b"", b"cd"], pa.large_binary()),
        pa.array([["ab"], [], ["c", "de"]]),
        pa.array([{"x": "ab", "y": b"cde"}, None, {"x": None, "y": b"f"}]),
        pa.array([[("k", "vv")], None, [("a", "b"), ("c", "d")]], pa.map_(pa.string(), pa.string())),
    ]

    def total(value: object) -> int:
        if isinstance(value, dict):
            return sum(total(item) for item in value.values())
        if isinstance(value, list | tuple):
            return sum(total(item) for item in value)
        return len(value) if isinstance(value, str | bytes) else 0

    for array in kinds:
        for start in range(3):
            for length in range(3 - start + 1):
                part = array.slice(start, length)
                text, binary = sizes(part)
                assert 0 <= text + binary - total(part.to_pylist()) <= 8 * 3, (array.type, start, length)


def test_class_numbers_become_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["tench, Tinca tinca", "goldfish"], "_type": "ClassLabel"}, "x": {"dtype": "int64"}}
    table = pa.table({"label": [1, 0, -1, None], "x": [1, 1, 1, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row["label"] for row in rows(tmp_path / "a.parquet")] == ["goldfish", "tench, Tinca tinca", None, None]
    assert [row["x"] for row in rows(tmp_path / "a.parquet")] == [1] * 4
    for metadata in (b"{", b"[]", b"{}", b'{"info": {"features": {"label": 3}}}'):
        pq.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
        assert [row["label"] for row in rows(tmp_path / "a.parquet")] == [1, 0, -1, None]
