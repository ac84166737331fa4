"""`SHA256SUMS` of a model folder: the digest of every file in it, in the format of `sha256sum -c`.

Written beside the weights by everything here that writes a model or an adapter. A folder that has it is held to it when
it is read: each file is hashed at its first use on a machine and remembered (`storage.verified`), so that a flipped bit
is named and costs nothing from the second start on. A folder from elsewhere has none and is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from schemas.digest import file_sha256
from storage.verified import Verified

FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/]+)")
_REMEDY = f"restore it, or delete {FILE} if the change is yours"
_SMALL = (".json", ".jinja")
"""Suffixes of configuration, tokenizer and templates, which every reader needs."""


@dataclass(frozen=True)
class Sums:
    """What `SHA256SUMS` of a folder says."""

    folder: Path
    of: Mapping[str, str] | None
    """Name to SHA-256; None where the folder has no such file."""

    @cached_property
    def _verified(self) -> Verified:
        return Verified(record=FILE, remedy=_REMEDY)

    def check(self, file: Path) -> None:
        """Hold a file of the folder against its sum, unless the folder has none.

        Raises ValueError with one line if it is not what was written, or not listed.
        """
        if self.of is None:
            return
        if file.name not in self.of:
            raise ValueError(f"{file}: {self.folder / FILE} does not list it; {_REMEDY}")
        self._verified.check(file, self.of[file.name])

    def check_small(self) -> None:
        """Hold configuration, tokenizer and templates against their sums.

        Raises ValueError or FileNotFoundError with one line that names the file.
        """
        for name in self.of or ():
            if name.endswith(_SMALL):
                self.check(self.folder / name)

    def check_all(self) -> None:
        """Hold all files against their sums, for readers of other libraries. Errors as of `check_small`."""
        for name in self.of or ():
            self.check(self.folder / name)


def read_sums(folder: str | Path) -> Sums:
    """The sums of a model folder. Raises ValueError with one line for a file that is not in the format."""
    folder = Path(folder)
    file = folder / FILE
    if not file.is_file():
        return Sums(folder, None)
    sums = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1], 1):
        if (match := _LINE.fullmatch(line)) is None:
            raise ValueError(f"{file}:{number}: expected a SHA-256 and the name of a file; restore it, or delete it")
        sums[match[2]] = match[1]
    if not sums:
        raise ValueError(f"{file}: names no file; restore it, or delete it")
    return Sums(folder, sums)


def write_sums(folder: Path) -> None:
    """Write the sums of all files of `folder`, which is complete but for them."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != FILE)
    lines = [f"{file_sha256(path)}  {path.name}\n" for path in files]
    (folder / FILE).write_text("".join(lines), encoding="utf-8")
