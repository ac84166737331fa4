"""What was answered so far: JSON lines, on disk before the next batch is asked, so that a kill costs one batch at most.

OUT/<benchmark>/run.json            what the answers belong to: questions, model, settings
OUT/<benchmark>/answers-<rank>.jsonl  one line per answer, appended by each process
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.files import atomic_file, write_file


class AnswerStore:
    """Answers of one benchmark, by question id."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], rank: int = 0) -> None:
        """Open the store of `folder`; a new one belongs to `identity`.

        Raises ValueError if it belongs to another: answers of two models or prompt templates never mix.
        """
        claim(folder, identity)
        self._folder, self._path = folder, folder / f"answers-{rank}.jsonl"
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """What a killed process left half written goes, so that the next line starts on its own."""
        if self._path.is_file():
            whole = self._path.read_bytes().rpartition(b"\n")
            with self._path.open("r+b") as file:
                file.truncate(len(whole[0]) + len(whole[1]))

    def read(self) -> dict[str, str]:
        """Answers of all processes."""
        return read_answers(self._folder)

    def add(self, answers: Iterable[tuple[str, str]]) -> None:
        """Append a batch; it is on disk when this returns."""
        lines = [json.dumps({"id": key, "said": said}, ensure_ascii=False) + "\n" for key, said in answers]
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())


def read_answers(folder: Path) -> dict[str, str]:
    """Question id to answer, of all processes. Raises ValueError naming a file that is damaged."""
    answers: dict[str, str] = {}
    for path in sorted(folder.glob("answers-*.jsonl")):
        # Not splitlines(): an answer may hold other line ends, U+2028 for one. The last piece is torn, or empty.
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            try:
                row = json.loads(line)
                answers[row["id"]] = row["said"]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise ValueError(f"{path}: damaged; delete it to have its questions asked again") from None
    return answers


def claim(folder: Path, identity: Mapping[str, Any], *, option: str = "--out") -> None:
    """Make `folder` belong to `identity`; it is made if absent.

    Args:
        option: where the folder is given, for the message.

    Raises ValueError naming what differs if it belongs to another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    wanted = json.loads(json.dumps(identity))
    if path.is_file():
        found = json.loads(path.read_text())
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise ValueError(
                    f"{folder} holds what another run made: {name} was {_short(found.get(name))}, now "
                    f"{_short(wanted.get(name))}; choose another {option}, or delete that folder"
                )
        return
    write_json(path, wanted)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines, whole or not at all."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of `write_lines`. Raises FileNotFoundError or ValueError with one line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found: no finished evaluation of this benchmark")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: damaged: {error}") from None
