"""What workers report is read once, whole lines only."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipelines.engine import journal
from pipelines.engine.journal import Journals, append


def test_rows_results_and_failures_add_up(tmp_path: Path) -> None:
    journals = Journals(tmp_path)
    append(tmp_path, {"begin": 0})
    append(tmp_path, {"shard": 0, "rows": 5})
    journals.read()
    assert (journals.rows, journals.results, journals.in_flight(os.getpid())) == (5, {}, 0)
    append(tmp_path, {"shard": 0, "rows": 9, "value": "x"})
    append(tmp_path, {"begin": 1})
    append(tmp_path, {"shard": 1, "rows": 3, "failure": "no"})
    journals.read()
    assert (journals.rows, journals.failed, sorted(journals.results)) == (12, 1, [0, 1])
    assert journals.in_flight(os.getpid()) is None
    append(tmp_path, {"shard": 0, "rows": 99, "value": "again"})
    append(tmp_path, {"shard": 0, "rows": 99})
    journals.read()
    assert (journals.rows, journals.results[0]["value"]) == (12, "x"), "an engine may do a shard twice"


def test_a_line_that_is_being_written_waits(tmp_path: Path) -> None:
    journals, file = Journals(tmp_path), tmp_path / "1-2-host.jsonl"
    file.write_bytes(b'{"shard":0,"rows":1,"value":1}\n{"shard":1,"ro')
    journals.read()
    assert list(journals.results) == [0]
    with file.open("ab") as more:
        more.write(b'ws":2,"value":null}\n')
    journals.read()
    assert (list(journals.results), journals.rows) == ([0, 1], 3)


def test_a_poll_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    loads = journal.json.loads
    monkeypatch.setattr(journal.json, "loads", lambda line: (parsed.append(line), loads(line))[1])
    journals = Journals(tmp_path)
    for shard in range(50):
        append(tmp_path, {"shard": shard, "rows": 1, "value": shard})
        journals.read()
    assert len(parsed) == 50
    assert len(list(tmp_path.iterdir())) == 1, "one file per worker, not per shard"


def test_threads_have_journals_of_their_own(tmp_path: Path) -> None:
    def work(start: int) -> None:
        for shard in range(start, start + 200):
            append(tmp_path, {"shard": shard, "rows": 1, "value": "v" * 500})

    threads = [threading.Thread(target=work, args=(200 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journals = Journals(tmp_path)
    journals.read()
    assert sorted(journals.results) == list(range(800))
