"""What all sources have in common."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo.source import PARTS
from pipelines.sources import SourceError, formats, read_source
from schemas.spec import Source
from tests.pictures import PICTURES


def test_every_format_of_the_documentation_is_there() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sources.md").read_text()
    for name in formats():
        assert f"`{name}`" in page, f"docs/sources.md does not mention {name}"


@pytest.mark.parametrize("format", ["nope", "errors", "refs", "os.path", "../images", ""])
def test_unknown_formats(tmp_path: Path, format: str) -> None:
    source = Source(name="s", format=format, path=str(tmp_path), task="text")
    with pytest.raises(
        SourceError, match=r"source s: no format .*there are: arxivcap, chat, coco_captions, huggingface, "
    ):
        next(read_source(source))


def test_wrong_task_and_wrong_options(write, read) -> None:
    path = write("a.jsonl", [{"messages": [{"role": "user", "content": "hi"}]}])
    with pytest.raises(SourceError, match="format chat gives task text, not generation"):
        read("chat", path, "generation")
    with pytest.raises(SourceError, match=r"source test: options: no option .colour.; there are: exclude, files, rows"):
        read("chat", path, "text", colour="red")
    with pytest.raises(SourceError, match=r"source test: options\.max_chars: Input should be a valid integer"):
        read("text", path, "text", max_chars="many")
    with pytest.raises(SourceError, match=r"source test: .*nowhere: no such file or folder"):
        read("chat", path.parent / "nowhere", "text")


def test_limit_and_licence(write) -> None:
    rows = [{"url": f"http://a/{n}", "caption": "", "terms": "CC0" if n == 1 else None} for n in range(5)]
    source = Source(
        name="s",
        format="url_list",
        path=str(write("a.jsonl", rows)),
        task="generation",
        options={"licence": "terms"},
        limit=3,
        licence="CC BY 4.0",
    )
    samples = list(read_source(source))
    assert [s.images[0].url for s in samples] == ["http://a/0", "http://a/1", "http://a/2"]
    assert [s.licence for s in samples] == ["CC BY 4.0", "CC0", "CC BY 4.0"]


def test_a_source_is_lazy(write) -> None:
    path = write("a.jsonl", '{"url": "http://a", "caption": "fine"}\n{"cut')
    iterator = read_source(Source(name="s", format="url_list", path=str(path), task="generation"))
    assert next(iterator).messages[0].text == "fine"
    with pytest.raises(SourceError, match=r"a\.jsonl:2: .*cut short"):
        next(iterator)


GOOD = '{"url": "http://a", "caption": "fine"}\n'


def test_rows_that_cannot_be_read_are_rows(write, met) -> None:
    path = write("a.jsonl", GOOD + "broken\n" + '{"url": 3, "caption": ""}\n' + GOOD)
    samples, account = met("url_list", path, max_unreadable=0.5)
    assert [(s.key, s.outcome) for s in samples] == [
        ("a.jsonl:1", "ok"),
        ("a.jsonl:2", "bad_row"),
        ("a.jsonl:3", "bad_row"),
        ("a.jsonl:4", "ok"),
    ]
    assert (account.taken, dict(account.failed), account.rows) == (2, {"bad_row": 2}, 4)
    assert [message.partition(": ")[0].rpartition("/")[2] for message in account.examples["bad_row"]] == [
        "a.jsonl:2",
        "a.jsonl:3",
    ]
    assert len({s.uid for s in samples}) == 3, "each row that cannot be read is one of its own"


def test_too_many_rows_that_cannot_be_read_stop_the_source(write, met) -> None:
    few = write("few.jsonl", GOOD * 8 + "broken\n")
    assert met("url_list", few)[1].rows == 9  # one of nine proves nothing
    line = r"source test: 2 of 10 rows cannot be read \(bad_row 2\), more than max_unreadable = 0\.05; .*few\.jsonl:9"
    with pytest.raises(SourceError, match=line):
        met("url_list", write("few.jsonl", GOOD * 8 + "broken\n" * 2))
    many = write("many.jsonl", "broken\n" * 5000)
    rows = read_source(Source(name="test", format="url_list", path=str(many), task="generation"))
    assert len(list(itertools.islice(rows, 999))) == 999
    with pytest.raises(SourceError, match=r"1000 of 1000 rows cannot be read"):  # not only at the end
        next(rows)


def test_a_source_without_a_row_is_an_error(write, met) -> None:
    path = write("a.jsonl", "\n")
    with pytest.raises(
        SourceError, match=r"source test: .*a\.jsonl: no row: it is empty; allow_empty = true allows it"
    ):
        met("url_list", path)
    assert met("url_list", path, allow_empty=True)[0] == []
    assert met("url_list", path, limit=0)[0] == []
    path = write("b.json", json.dumps([{"picture": "a.jpg", "conversations": [{"from": "gpt", "value": "x"}]}] * 3))
    with pytest.raises(SourceError, match=r"no row: every row was skipped \(other_task 3\), .*b\.json\[0\] among them"):
        met("llava", path, "understanding")


def test_control_characters_never_reach_a_message(write, met) -> None:
    red = "\x1b[31m\x07\u202e\x9b"
    path = write("a.jsonl", json.dumps({red: 1}) + "\n")
    with pytest.raises(SourceError) as caught:
        met("url_list", path, max_unreadable=0)
    assert r"\x1b[31m\x07\u202e\x9b" in str(caught.value)
    assert str(caught.value).isprintable()


def test_columns_are_kept(write, met, tmp_path: Path) -> None:
    rows = [{"url": "http://a", "caption": "c", "score": 5.5, "n": 3, "tag": "t", "none": None}]
    write("a.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    columns = ("score", "n", "tag", "none")
    for name in ("a.jsonl", "b.parquet"):
        [sample], _ = met("url_list", tmp_path / name, columns=columns)
        assert sample.columns == {"score": 5.5, "n": 3, "tag": "t", "none": None}
    with pytest.raises(SourceError, match=r"b\.parquet: no column 'scores'"):
        met("url_list", tmp_path / "b.parquet", columns=("scores",))


def test_the_order_does_not_depend_on_how_the_files_were_made(tmp_path: Path, read) -> None:
    names = [f"{folder}/{n}.jpg" for folder in ("b", "a") for n in (10, 2, 1)]
    for root, order in ((tmp_path / "x", names), (tmp_path / "y", names[::-1])):
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(PICTURES["photo.jpg"])
            (root / name).with_suffix(".txt").write_text(name)
    first, second = read("image_folder", tmp_path / "x"), read("image_folder", tmp_path / "y")
    assert first == second  # paths too: they are relative to the source
    assert [s.key for s in first] == sorted(names)


def test_every_part_of_the_built_in_world(tmp_path: Path, read) -> None:
    world = tmp_path / "world"
    with pytest.raises(SourceError, match=r"no world here; run python -m demo\.world"):
        read("shapes", world, part="imagenet")
    command = [sys.executable, "-m", "demo.world", "--out", str(world), "--scenes", "40", "--heldout", "2"]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[2])
    tasks = {"imagenet": "generation", "captions": "generation", "text": "text", "chat": "text"}
    found = Counter()
    for part in PARTS:
        samples = read("shapes", world, tasks.get(part, "understanding"), part=part)
        found[part] = len(samples)
        assert len({s.key for s in samples}) == len(samples)
        for sample in samples:
            marks = sum(message.text.count("<image>") for message in sample.messages)
            caption = sample.messages[0].role == "caption"
            assert len(sample.images) == (1 if caption else marks)
            assert all(image.url or image.sha256 for image in sample.images)
    assert min(found[part] for part in PARTS) > 0
    assert found["captions"] == len((world / "captions" / "urls.jsonl").read_text().splitlines())
