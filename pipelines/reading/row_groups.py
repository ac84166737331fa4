"""Which row groups of Parquet files can hold a row that `where` asks for, by their statistics.

Looked up in a process of its own: over column metadata that is damaged in certain ways, pyarrow ends the process and
raises no error. If that happens, all groups of the file are read, and reading says in one line what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from pipelines.reading.errors import SourceError
from pipelines.reading.where import parse_where


def matching_groups(files: Sequence[Path], where: str) -> list[set[int] | None]:
    """For each file, the numbers of the groups that can hold a row for which `where` holds; None: not known.

    Raises SourceError if the condition does not fit the columns of a file.
    """
    found: list[set[int] | None] = []
    while len(found) < len(files):
        request = json.dumps({"where": where, "files": [str(file) for file in files[len(found) :]]})
        command = [sys.executable, "-m", "pipelines.reading.row_groups"]
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            answer = json.loads(line)
            if isinstance(answer, str):
                raise SourceError(f"{files[len(found)]}: where does not fit the columns: {answer}")
            found.append(None if answer is None else set(answer))
        if done.returncode and len(found) < len(files):
            found.append(None)  # the file that ended the process
    return found


def _groups(file: str, where: str) -> list[int] | str | None:
    """Numbers of groups; a message if the condition does not fit; None if the file cannot be read."""
    condition = parse_where(where, "where").expression()
    try:
        fragment = ds.ParquetFileFormat().make_fragment(file, LocalFileSystem())
        schema = fragment.physical_schema
    except (pa.ArrowException, OSError):
        return None
    try:
        parts = fragment.split_by_row_group(condition, schema=schema)
        return [group.id for part in parts for group in part.row_groups]
    except (pa.ArrowException, OSError) as error:
        return str(error).splitlines()[0]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    for name in asked["files"]:
        print(json.dumps(_groups(name, asked["where"])), flush=True)
