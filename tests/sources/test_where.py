"""`where`: the same rows whatever the format, nothing evaluated as code, row groups that cannot match not read."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.reading import row_groups
from pipelines.reading import rows as rows_module
from pipelines.reading.records import Record
from pipelines.reading.where import parse_where
from pipelines.sources import SourceError, read_source
from schemas.spec import Source

ROOT = Path(__file__).resolve().parents[2]

ROWS = [
    {"url": f"http://a/{n}", "caption": "c", "score": score, "width": width, "tag": tag, "ok": ok}
    for n, (score, width, tag, ok) in enumerate(
        itertools.product((4.5, 5.0, 5.5, None), (256, 512, None), ("a", "it's", "", None), (True, False))
    )
]


def sql(value: Any, compare: Any) -> bool | None:
    return None if value is None else compare(value)


def both(a: bool | None, b: bool | None) -> bool | None:
    return False if a is False or b is False else None if a is None or b is None else True


def either(a: bool | None, b: bool | None) -> bool | None:
    return True if a or b else None if a is None or b is None else False


def opposite(a: bool | None) -> bool | None:
    return None if a is None else not a


CONDITIONS = {
    "score >= 5.0 and width >= 512": lambda r: both(
        sql(r["score"], lambda v: v >= 5), sql(r["width"], lambda v: v >= 512)
    ),
    "SCORE > 5": None,
    "score > 5 or tag = 'a'": lambda r: either(sql(r["score"], lambda v: v > 5), sql(r["tag"], lambda v: v == "a")),
    "not (score > 5 or tag == 'a')": lambda r: opposite(
        either(sql(r["score"], lambda v: v > 5), sql(r["tag"], lambda v: v == "a"))
    ),
    "tag = 'it''s'": lambda r: sql(r["tag"], lambda v: v == "it's"),
    'tag <> "a" AND NOT width < 300': lambda r: both(
        sql(r["tag"], lambda v: v != "a"), sql(r["width"], lambda v: not v < 300)
    ),
    "tag in ('a', 'b')": lambda r: sql(r["tag"], lambda v: v in ("a", "b")),
    "tag not in ('a', 'b')": lambda r: sql(r["tag"], lambda v: v not in ("a", "b")),
    "width is null": lambda r: r["width"] is None,
    "width is not null and score is not null": lambda r: r["width"] is not None and r["score"] is not None,
    "ok": None,
    "ok = true": lambda r: r["ok"],
    "5 <= score": lambda r: sql(r["score"], lambda v: v >= 5),
    "width in (512)": lambda r: sql(r["width"], lambda v: v == 512),
}


@pytest.mark.parametrize("where", [where for where, check in CONDITIONS.items() if check])
def test_parquet_and_json_agree_with_the_condition(tmp_path: Path, write, met, where: str) -> None:
    expected = [row["url"] for row in ROWS if CONDITIONS[where](row)]
    assert 0 < len(expected) < len(ROWS)
    write("a.jsonl", ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=7)
    for name in ("a.jsonl", "a.parquet"):
        samples, account = met("url_list", tmp_path / name, where=where)
        assert [sample.images[0].url for sample in samples] == expected, name
        assert account.skipped == {"where": len(ROWS) - len(expected)}


def test_numbers_of_a_csv_file_are_numbers(tmp_path: Path, met) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    samples, _ = met("url_list", tmp_path / "a.csv", where="score >= 5 and width in (512, 1024) and tag != 'a'")
    expected = [r for r in ROWS if (r["score"] or 0) >= 5 and r["width"] == 512 and r["tag"] != "a"]
    assert [sample.images[0].url for sample in samples] == [row["url"] for row in expected]
    samples, _ = met("url_list", tmp_path / "a.csv", where="width != 256")  # an empty cell is no number
    assert [sample.images[0].url for sample in samples] == [row["url"] for row in ROWS if row["width"] == 512]


def test_the_number_of_a_row_is_that_in_the_file(tmp_path: Path, met) -> None:
    """Keys and references to cells count the rows that were left out too."""
    values = [str(n).encode() for n in range(50)]
    table = pa.table({"image": values, "text": ["c"] * 50, "n": list(range(50))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=8)
    samples, _ = met("parquet_images", tmp_path, where="n >= 13 and n != 15 and n < 40")
    wanted = [n for n in range(13, 40) if n != 15]
    assert [sample.key for sample in samples] == [f"a.parquet:{n}" for n in wanted]
    assert [sample.images[0].row for sample in samples] == wanted


WRONG = {
    "": "expected a column or a value|at the end",
    "score": "expected a comparison at the end",
    "score >": "at the end",
    "score > 5 width < 3": "expected `and` or `or` at 'width < 3'",
    "(score > 5": r"expected \) at the end",
    "1 < 2": "a comparison without a column",
    "score > 5; import os": "not understood at '; import os'",
    "__import__('os').system('true') = 0": "not understood at",
    "score in ()": "expected a number",
    "score is 5": "expected null",
    "not": "at the end",
    "score > 'unclosed": "not understood",
    "(" * 200 + "a = 1" + ")" * 200: "too many conditions inside each other",
    "not " * 200 + "a = 1": "too many conditions inside each other",
}


@pytest.mark.parametrize("where", WRONG)
def test_mistakes_are_one_line_with_the_place(write, met, where: str) -> None:
    path = write("a.jsonl", ROWS)
    with pytest.raises(SourceError, match=rf"^source test: where: .*({WRONG[where]})") as caught:
        met("url_list", path, where=where)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("statistics", [True, False])
def test_conditions_that_do_not_fit_the_columns(tmp_path: Path, write, met, monkeypatch, statistics: bool) -> None:
    monkeypatch.setattr(rows_module, "STATISTICS_FROM", 0 if statistics else 1 << 30)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for where, message in {
        "score > 'high'": "where does not fit the columns",
        "scores > 5": r"(no column 'scores'|where does not fit the columns: No match for FieldRef.*scores)",
    }.items():
        with pytest.raises(SourceError, match=rf"a\.parquet: {message}"):
            met("url_list", tmp_path / "a.parquet", where=where)
    # Rows of JSON may leave a field out; if all do, no row is left, and that is told.
    with pytest.raises(SourceError, match=r"every row was skipped \(where 96\)"):
        met("url_list", write("a.jsonl", ROWS), where="scores > 5")


def test_random_conditions_never_raise_anything_else() -> None:
    dice = random.Random(0)
    words = ["score", "and", "or", "not", "in", "is", "null", "(", ")", ",", ">", "=", "5", "'x'", "1e999", "true"]
    record = Record("", "", {"score": 5.5})
    good = 0
    for _ in range(30_000):
        text = " ".join(["score", ">", *(dice.choice(words) for _ in range(dice.randrange(1, 6)))])
        try:
            node = parse_where(text, "w")
        except SourceError:
            continue
        good += 1
        assert node.holds(record) in (True, False, None)
        node.expression()
    assert good > 50


def test_groups_that_cannot_match_are_not_read(tmp_path: Path, met, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    table = pa.table({"url": ["http://a"] * rows, "caption": ["c"] * rows, "score": [n / rows for n in range(rows)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    reads: Counter[int] = Counter()
    read = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *args: Any, row_groups: list[int], **kwargs: Any) -> Any:
        reads.update(row_groups)
        return read(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    monkeypatch.setattr(rows_module, "STATISTICS_FROM", 0)
    samples, account = met("url_list", tmp_path / "a.parquet", where="score >= 0.9 or score < 0.01")
    assert len(samples) == 2000 + 200
    assert account.skipped == {"where": rows - 2200}
    assert sorted(reads) == [0, 18, 19]


def test_a_file_that_ends_the_process_is_read_whole_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at statistics dies over the second of three files; the third is looked at all the same."""
    paths = []
    for name in ("a", "b", "c"):
        paths.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"n": [1, 2, 3, 4]}), paths[-1], row_group_size=2)
    run = subprocess.run

    def dies(command: list[str], *, input: str, **more: Any) -> Any:
        asked = json.loads(input)
        if str(paths[1]) in asked["files"]:
            before = asked["files"][: asked["files"].index(str(paths[1]))]
            done = run(command, input=json.dumps({**asked, "files": before}), **more)
            return subprocess.CompletedProcess(command, -6, done.stdout, "terminate called")
        return run(command, input=input, **more)

    monkeypatch.setattr(row_groups.subprocess, "run", dies)
    assert row_groups.matching_groups(paths, "n > 3") == [{1}, None, {1}]


MEASURE = """
import json, sys
import pyarrow.parquet as pq
from pipelines.readings import FOLDER
from pipelines.steps.plan import PlanStep, PlanWork
from schemas.spec import Source
from storage.places import as_store
from pipelines.removal.entries import Entries
from tests.memory import peak
groups = []
read = pq.ParquetFile.iter_batches
def counted(self, *args, row_groups, **kwargs):
    groups.extend(row_groups)
    return read(self, *args, row_groups=row_groups, **kwargs)
pq.ParquetFile.iter_batches = counted
source = Source(name="s", format="url_list", path=sys.argv[1], task="generation", where="aesthetic_score >= 5.8")
corpus = as_store(sys.argv[2])
planned = []
PlanStep(corpus, 2048).run(PlanWork(source, (), Entries()), planned.append)
(reading,) = (json.loads(corpus.read(entry.key)) for entry in corpus.list(FOLDER))
print(sum(planned), reading["skipped"]["where"], len(groups), peak())
"""


@pytest.mark.slow
def test_planning_a_million_rows_takes_no_more_memory_than_a_tenth(tmp_path: Path) -> None:
    """Only rows that match are planned, and row groups whose best score is too low are not read."""
    peaks = {}
    for rows in (100_000, 1_000_000):
        path, block = tmp_path / f"{rows}.parquet", rows // 100
        scores = [4.0 + n // block / 50 + math.sin(n) / 10 for n in range(rows)]
        types = pa.schema([("url", pa.string()), ("caption", pa.string()), ("aesthetic_score", pa.float64())])
        with pq.ParquetWriter(path, types) as file:
            for first in range(0, rows, block):
                numbers = range(first, first + block)
                urls = [f"http://host/{n}.jpg" for n in numbers]
                captions = [f"a caption of some length about number {n}, and more" * 4 for n in numbers]
                file.write_table(pa.table([urls, captions, scores[first : first + block]], schema=types))
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / f"corpus-{rows}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        planned, skipped, groups, peaks[rows] = map(int, done.stdout.split())
        expected = sum(score >= 5.8 for score in scores)
        assert (planned, skipped) == (expected, rows - expected)
        best = [max(scores[first : first + block]) for first in range(0, rows, block)]
        if path.stat().st_size >= rows_module.STATISTICS_FROM:
            assert groups == sum(score >= 5.8 for score in best) < 20
    assert path.stat().st_size >= rows_module.STATISTICS_FROM, "the larger file is one whose statistics are looked at"
    print(f"{planned:,} rows planned of {rows:,}, {groups} of 100 row groups read, peak MiB by rows: {peaks}")
    assert peaks[1_000_000] - peaks[100_000] < 100


def test_where_is_part_of_what_a_source_is() -> None:
    source = Source(name="s", format="url_list", path="p", task="generation", where="a = 1")
    assert next(iter([source.where])) == "a = 1"
    with pytest.raises(SourceError, match="no such file or folder"):
        next(read_source(source))
