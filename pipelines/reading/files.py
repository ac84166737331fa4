"""Which files a source is made of, in an order that no file system has a say in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.reading.errors import SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.options import FileOptions
from schemas.spec import Source


def files_of(source: Source, gate: Gate, suffixes: tuple[str, ...], options: FileOptions) -> list[Path]:
    """The file `source.path`, or the files below that folder, sorted by relative path.

    With `options.files` those that match one of its patterns, else those that end in one of `suffixes`; never those
    that match `options.exclude`. Raises SourceError if there is none.
    """
    path = Path(source.path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SourceError(f"source {source.name}: {path}: no such file or folder")
    wanted = Patterns(options.files)
    found = [
        file
        for file in walk(gate, path, options.exclude)
        if (wanted.match(gate.relative(file)) if options.files else file.name.lower().endswith(suffixes))
    ]
    if not found:
        kind = f"matches {', '.join(options.files)}" if options.files else f"ends in {', '.join(suffixes)}"
        raise SourceError(f"source {source.name}: {path}: no file below this folder {kind}")
    return found


def walk(gate: Gate, folder: Path, exclude: Sequence[str] = ()) -> Iterator[Path]:
    """Files below `folder`, depth first, names in order.

    Files and folders whose name starts with a dot or an underscore are left out, as most data tools do. A linked folder
    is entered if it lies outside of the source and may be read; inside, its files are met where they are.

    Raises RowError (`forbidden_path`) for a linked folder that may not be read.
    """
    yield from _walk(gate, folder, Patterns(exclude), (os.path.realpath(folder),))


def _walk(gate: Gate, folder: Path, exclude: Patterns, above: tuple[str, ...]) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.name.startswith((".", "_")) or exclude.match(gate.relative(path)):
            continue
        if not path.is_dir():
            yield path
            continue
        real = gate.resolve(path)
        if entry.is_symlink() and (real == gate.real or real.startswith(gate.real + "/") or real in above):
            continue
        yield from _walk(gate, path, exclude, (*above, real))


class Patterns:
    """File name patterns. One without a slash is compared with the name alone, wherever the file lies."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._names = [_regex(pattern) for pattern in patterns if "/" not in pattern]
        self._paths = [_regex(pattern) for pattern in patterns if "/" in pattern]

    def match(self, path: str) -> bool:
        """Whether a relative path matches one of the patterns."""
        name = path.rpartition("/")[2]
        return any(regex.fullmatch(name) for regex in self._names) or any(r.fullmatch(path) for r in self._paths)


_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
_REGEX = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_REGEX.get(part, re.escape(part)) for part in _PARTS.findall(pattern)), re.DOTALL)
