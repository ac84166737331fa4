"""A data set at the Hugging Face Hub, at one commit: a folder whose files are opened over the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from pipelines.reading.errors import SourceError
from pipelines.reading.gate import Gate

_ADDRESS = re.compile(r"hf://datasets/(?P<id>[\w.-]+(?:/[\w.-]+)?)@(?P<commit>[0-9a-f]{40})/?")


class HubFolder(Gate):
    """The files of a data set. They hold no links, and what is at a commit never changes."""

    def __init__(self, address: str, where: str) -> None:
        """`address`: hf://datasets/OWNER/NAME@COMMIT. Raises SourceError for any other; `where` begins the message."""
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise SourceError(
                f"{where}: {address}: expected hf://datasets/OWNER/NAME@COMMIT with the 40 hex digits of a commit (a "
                "branch or tag moves, so the same corpus could not be built again)"
            )
        self.id, self.commit = found["id"], found["commit"]
        self.address = address.rstrip("/")
        self.root = Path(f"{self.id}@{self.commit}")

    def resolve(self, path: Path, where: str = "") -> str:
        """`path`: there are no links."""
        return str(path)

    def open(self, path: Path, where: str = "") -> BinaryIO:
        """Open a file; ranges are read as they are asked for. Raises FileNotFoundError, else SourceError."""
        from huggingface_hub import HfFileSystem

        try:
            return HfFileSystem().open(f"{self.address}/{self.relative(path)}", "rb")  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file") from None
        except (OSError, ValueError) as error:
            raise SourceError(f"{where or path}: {first_line(error)}") from None

    def is_file(self, path: Path) -> bool:
        """Whether there is a file at `path`."""
        try:
            with self.open(path):
                return True
        except FileNotFoundError:
            return False


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
