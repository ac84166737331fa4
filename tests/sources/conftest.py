"""Helpers to build small sources in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pipelines.reading.account import Account
from pipelines.sources import read_source
from schemas.sample import Sample
from schemas.spec import Source

Read = Callable[..., list[Sample]]
Met = Callable[..., tuple[list[Sample], Account]]


def described(format: str, path: Path, task: str, options: dict[str, Any], **fields: Any) -> Source:
    return Source.model_validate(
        {"name": "test", "format": format, "path": str(path), "task": task, "options": options, **fields}
    )


@pytest.fixture
def read() -> Read:
    """read("llava", path, "understanding", option=value, ...): all samples of a source."""

    def run(format: str, path: Path, task: str = "generation", **options: Any) -> list[Sample]:
        samples = list(read_source(described(format, path, task, options)))
        assert all(sample.outcome == "ok" for sample in samples), "see `met` for rows that cannot be read"
        return samples

    return run


@pytest.fixture
def met() -> Met:
    """met("llava", path, "understanding", {"option": value}, where="..."): all samples, and the account of the rows."""

    def run(
        format: str, path: Path, task: str = "generation", options: dict[str, Any] | None = None, **fields: Any
    ) -> tuple[list[Sample], Account]:
        source = described(format, path, task, options or {}, **fields)
        account = Account(source)
        return list(read_source(source, account)), account

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str | Iterable[dict[str, Any]]], Path]:
    """write("a/b.jsonl", rows): a file below the test's folder, with folders as needed."""

    def run(name: str, content: bytes | str | Iterable[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        return path

    return run
