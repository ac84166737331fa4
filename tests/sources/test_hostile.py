"""Hostile local sources: nothing outside is read, nothing crashes, every row has a fate, no message is dangerous."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.reading.account import Account
from pipelines.reading.local import LocalImages, gates_of
from pipelines.sources import SourceError, read_source
from pipelines.steps.download import read_local
from schemas.printable import printable
from schemas.spec import Source
from tests.sources.hostile import CASES, ESC, SECRET, Case, lines, table, tar, zipped

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Source:
    case: Case = request.param
    root = tmp_path / "source"
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("secret.txt", "secret.jpg", "elsewhere/secret.txt", "elsewhere/secret.jpg"):
        (tmp_path / name).write_text("an allowed text" if "ELSEWHERE" in str(case.fields) and "/" in name else SECRET)
    case.make(root)
    fields = {"name": "hostile", "format": case.format, "task": case.task, "options": case.options, **case.fields}
    if "allow_links_to" in fields:
        fields["allow_links_to"] = [str(tmp_path / "elsewhere")]
    fields.setdefault("max_unreadable", 1.0 if case.stops is None else 0.05)
    return Source.model_validate({**fields, "path": str(root / case.path)})


def loaded(source: Source, samples: list, folder: Path) -> Counter[str]:
    """Outcomes of rows once their local images are read; no byte of the secret may be among them."""
    outcomes: Counter[str] = Counter()
    refs = [image for sample in samples for image in sample.images if image.path is not None][:20]
    with contextlib.closing(LocalImages(refs, gates_of(source), folder, 1 << 20)) as images:
        for sample in samples[:20]:
            found = [read_local(image, images) for image in sample.images if image.path is not None]
            assert not any(SECRET.encode() in (data or b"") for _, data in found)
            bad = [outcome for outcome, _ in found if outcome != "ok"]
            outcomes[bad[0] if bad else sample.outcome] += 1
    outcomes["ok"] += max(0, len(samples) - 20)
    return outcomes


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 90
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("source", "case"), [(c, c) for c in CASES], ids=[c.name for c in CASES], indirect=["source"])
def test_a_hostile_source(source: Source, case: Case, tmp_path: Path) -> None:
    account = Account(source)
    samples, before = [], pa.total_allocated_bytes()
    stopped = None
    try:
        for sample in read_source(source, account):
            samples.append(sample if len(samples) < 20 else sample.model_copy(update={"messages": ()}))
            assert pa.total_allocated_bytes() - before < 300 << 20
    except SourceError as error:
        stopped = str(error)
    for message in (stopped or "", *(text for found in account.examples.values() for text in found)):
        assert "\n" not in message
        assert SECRET not in message
    assert stopped is None or stopped.isprintable()
    for sample in samples:
        assert SECRET not in sample.model_dump_json()
        assert "root:" not in sample.model_dump_json()
        sample.key.encode()
    if case.stops is not None:
        assert stopped is not None, f"read {len(samples)} rows"
        assert re.search(case.stops, stopped), stopped
    else:
        assert stopped is None
        assert {k: v for k, v in loaded(source, samples, tmp_path).items() if v} == case.rows
        assert account.rows == len(samples)
    assert account.skipped == case.skipped or not case.skipped


def test_what_a_command_prints_of_it(tmp_path: Path) -> None:
    """A whole command, in a process of its own: a stopped source, and a stop by a file name of escapes."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{ESC}.jsonl").write_text("nope\n" * 30)
    code = (
        "import sys; from janus.cli import run; from pipelines.sources import read_source\n"
        "from schemas.spec import Source\n"
        "run(lambda: len(list(read_source(Source(name='s', format='url_list', path=sys.argv[1], task='generation')))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    environment = {**os.environ, "COLUMNS": "500", "FORCE_COLOR": ""}
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, timeout=100, env=environment)
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.isprintable()
    assert r"\x1b[2J\x07\u202e\x9b31m.jsonl:1" in line


@pytest.mark.parametrize("kind", ["parquet", "tar", "jsonl.zip", "jsonl.gz", "jsonl.zst", "json", "csv"])
def test_a_flipped_byte_anywhere_is_rows_or_one_line(tmp_path: Path, kind: str) -> None:
    path, format = tmp_path / f"a.{kind}", "url_list"
    rows = [{"url": f"http://a/{n}", "caption": f"caption {n}"} for n in range(3)]
    text = lines(*rows).encode()
    match kind:
        case "parquet":
            format = "parquet_images"
            table(
                tmp_path, path.name, {"image": [{"bytes": b"x" * n, "path": None} for n in range(3)], "text": ["c"] * 3}
            )
        case "tar":
            format = "webdataset"
            tar(tmp_path, path.name, ("1.jpg", b"x"), ("1.txt", b"c"), ("2.jpg", b"x"), ("2.txt", b"c"))
        case "jsonl.zip":
            zipped(tmp_path, path.name, ("a.jsonl", text.decode()))
        case "jsonl.gz":
            path.write_bytes(gzip.compress(text))
        case "jsonl.zst":
            path.write_bytes(pa.compress(text, "zstd", asbytes=True))
        case "json":
            path.write_text(json.dumps(rows))
        case "csv":
            path.write_text("url,caption\n" + "".join(f"{row['url']},{row['caption']}\n" for row in rows))
    whole = path.read_bytes()
    source = Source(name="s", format=format, path=str(path), task="generation", max_unreadable=1)
    outcomes: Counter[str] = Counter()
    messages = []
    for at in range(0, len(whole), max(1, len(whole) // 400)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        try:
            outcomes.update(sample.outcome for sample in read_source(source))
        except SourceError as error:
            messages.append(str(error))
    assert messages or outcomes["bad_row"]
    assert all(message.isprintable() for message in messages)


def test_printable_leaves_text_alone() -> None:
    text = "Ein Bär — 熊, café 🙂 [x] \\n"
    assert printable(text) == text
    everything = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028, 0x2066, 0xFEFF, 0xD800]))
    assert printable(everything).isprintable()
    assert printable(everything).isascii()


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of a join lie in files while they are used, and no longer."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "a.jsonl").write_text('{"url": "http://a", "id": "1"}\n' * 3)
    (tmp_path / "c.csv").write_text("id,caption\n1,one\n")
    options = {"files": ["a.jsonl"], "join": {"file": "c.csv", "on": "id"}}
    source = Source(name="s", format="url_list", path=str(tmp_path), task="generation", options=options)
    assert [sample.messages[0].text for sample in read_source(source)] == ["one"] * 3
    assert list((tmp_path / "tmp").iterdir()) == []
