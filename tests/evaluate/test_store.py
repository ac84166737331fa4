from __future__ import annotations

from pathlib import Path

import pytest

from janus.evaluate import store

IDENTITY = {"model": "a", "max_new_tokens": 16}


def test_answers_of_all_processes_are_read_whatever_they_hold(tmp_path: Path) -> None:
    first, second = (store.AnswerStore(tmp_path, IDENTITY, rank) for rank in (0, 1))
    odd = 'line\u2028separator\x85 "quotes"\n\t\N{GRINNING FACE}'
    first.add([("1", odd), ("2", "")])
    second.add([("3", "yes")])
    assert first.read() == {"1": odd, "2": "", "3": "yes"}


def test_a_torn_line_goes_and_the_next_stands_on_its_own(tmp_path: Path) -> None:
    store.AnswerStore(tmp_path, IDENTITY).add([("1", "yes")])
    path = tmp_path / "answers-0.jsonl"
    path.write_bytes(path.read_bytes() + '{"id": "2", "said": "ü'.encode()[:-1])
    assert store.read_answers(tmp_path) == {"1": "yes"}
    again = store.AnswerStore(tmp_path, IDENTITY)
    again.add([("2", "no")])
    assert again.read() == {"1": "yes", "2": "no"}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    store.AnswerStore(tmp_path, IDENTITY).add([("1", "yes"), ("2", "no")])
    path = tmp_path / "answers-0.jsonl"
    path.write_text(path.read_text().replace('"id": "1"', '"id" "1"'))
    with pytest.raises(ValueError, match=r"answers-0.jsonl: damaged; delete it"):
        store.read_answers(tmp_path)


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    store.claim(tmp_path, IDENTITY)
    store.claim(tmp_path, dict(IDENTITY))
    with pytest.raises(ValueError, match=r'holds what another run made: model was "a", now "b"; choose another --out'):
        store.claim(tmp_path, {**IDENTITY, "model": "b"})
    with pytest.raises(ValueError, match="extra was null, now 1"):
        store.claim(tmp_path, {**IDENTITY, "extra": 1})
