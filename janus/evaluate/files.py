"""Reading benchmark files: JSON lines, JSON, TSV, Parquet, and pictures by name or in base64.

Every reader raises ValueError or FileNotFoundError with one line that names the file, the row and what was expected.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from janus.evaluate.benchmark import Picture

T = TypeVar("T")
MAX_FIELD = 64 * 2**20
"""Characters of one TSV field: a picture in base64 at most."""


def find(option: str, given: Path | None, data: Path, *patterns: str) -> list[Path]:
    """The files of a benchmark, sorted: the one given, or all that match the first pattern that has any below `data`.

    Args:
        option: the option that names the file, for the message: "--pope.questions".
        given: its value; a folder stands for the files in it that match the patterns' last parts.
    """
    if given is not None and given.is_file():
        return [given]
    if given is not None:
        data, patterns = given, tuple(PurePosixPath(pattern).name for pattern in patterns)
        if not given.is_dir():
            raise FileNotFoundError(f"{option} {given}: no such file or folder")
    for pattern in patterns:
        if found := sorted(path for path in data.glob(pattern) if path.is_file()):
            return found
    raise FileNotFoundError(f"{data}: no {' or '.join(patterns)} there; give {option}")


def folder(option: str, given: Path | None, data: Path, *names: str, otherwise: Path | None = None) -> Path:
    """A folder of pictures: the one given, or the first of `names` that is there below `data`, or `otherwise`."""
    if given is not None:
        if not given.is_dir():
            raise FileNotFoundError(f"{option} {given}: no such folder")
        return given
    for name in names:
        if (data / name).is_dir():
            return data / name
    if otherwise is not None:
        return otherwise
    raise FileNotFoundError(f"{data}: no folder {' or '.join(names)} there; give {option}")


def rows(path: Path, make: Callable[[dict[str, Any], int], T | None], what: str) -> list[T]:
    """`make(row, number)` of every row of a file, by its ending: .jsonl/.json (lines or one list), .tsv, .parquet.

    Errors as of `made`.
    """
    return made(path, _raw_rows(path), make, what)


def made(
    path: Path,
    numbered: Iterable[tuple[int | str, Any]],
    make: Callable[[dict[str, Any], Any], T | None],
    what: str,
) -> list[T]:
    """`make(row, number)` of every row, an object, of the file `path`; rows for which that is None are left out.

    What `make` raises for a missing or ill-typed field becomes one line that names file and row.

    Raises:
        ValueError: that line; or there is not one row.
    """
    result = []
    for number, row in numbered:
        try:
            if not isinstance(row, dict):
                raise TypeError(f"expected an object, found {type(row).__name__}")
            one = make(row, number)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            missing = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}:{number}: not a {what}: {missing}") from None
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        if one is not None:
            result.append(one)
    if not result:
        raise ValueError(f"{path}: no {what} in this file")
    return result


def _raw_rows(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".parquet":
        yield from enumerate(_parquet(path), 1)
    elif path.suffix == ".tsv":
        yield from _tsv(path)
    else:
        yield from _json(path)


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        yield from enumerate(load_json(path), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not valid JSON: {error}") from None


def load_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


def _tsv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as dictionaries; empty fields are left out, as in the tables the files were written from."""
    csv.field_size_limit(MAX_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        try:
            for row in reader:
                yield reader.line_num, {name: value for name, value in row.items() if name and value}
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: not a TSV row: {error}") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None


def picture_in(images: Path, name: str) -> Picture:
    """The picture `name` below a folder. Raises ValueError for a name that leads out of it."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"image {name!r}: expected a name below the image folder")
    path = images / relative

    def read() -> bytes:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such image")
        return path.read_bytes()

    return Picture(name, read)


def picture_from_base64(text: str, name: str) -> Picture:
    """A picture that stands in a table."""

    def read() -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None

    return Picture(name, read)


def picture_from_bytes(value: dict[str, Any] | bytes, name: str) -> Picture:
    """A picture of a Parquet cell: bytes, or the hub's struct of bytes and path."""
    data = value["bytes"] if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ValueError(f"{name}: expected the picture's bytes")
    return Picture(name, lambda: data)


def letters(options: Iterable[str]) -> dict[str, str]:
    """Options in order as A, B, C ..."""
    return {chr(ord("A") + index): str(option) for index, option in enumerate(options)}
