"""Reading evaluation sets: tables of questions, folders of pictures, lists of texts or of hashes.

Every reader raises ValueError or FileNotFoundError with one line that names the set, the file and the row.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from janus.images import ImageProblem
from pipelines.row import Row
from pipelines.signals.phash import ENOUGH, phash
from schemas.digest import digest, file_sha256
from schemas.reasons import Outcome
from schemas.spec import MAX_PIXELS

TEXT_FIELDS = ("question", "text", "prompt", "caption", "query", "instruction")
"""Fields that hold what a model is asked: POPE and MMBench and SEED-Bench, GenEval, COCO, and lists like them."""
TABLES = (".json", ".jsonl", ".tsv", ".csv", ".parquet", ".txt")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".zst", ".bz2", ".xz", ".7z")
MAX_PICTURE = 64 * 2**20
"""Bytes of a picture, or characters of a field that holds one in base64."""
MAX_JSON = 512 * 2**20
"""Bytes of a JSON file, which is read whole."""
SHORTEST_BASE64 = 128
"""Characters: what is shorter in a field `image` is a name."""
_ABOUT = re.compile(r"(licen[cs]e|readme|copying|notice)", re.IGNORECASE)
_HASH = re.compile(r"([0-9a-f]{64}|[0-9a-f]{16})(?:\s.*)?", re.IGNORECASE)


class Item(NamedTuple):
    """One row or file of an evaluation set."""

    name: str
    """Set, file and row: "pope/coco_pope_random.json:3"."""
    texts: tuple[str, ...] = ()
    sha256: bytes | None = None
    phash: int | None = None


def files_of(name: str, path: str) -> list[Path]:
    """The files of a set, a file or a folder, in order; licences and other files that are neither are left out.

    Raises FileNotFoundError if there are none, and ValueError for an archive.
    """
    root = Path(path)
    where = f"decontaminate.sets.{name}: {path}"
    if not root.exists():
        raise FileNotFoundError(f"{where}: no such file or folder")
    if root.is_file():
        found = [root]
    else:
        found = sorted(Path(folder, file) for folder, _, files in os.walk(root) for file in files)
    taken = []
    for file in found:
        if file.name.startswith(".") or _ABOUT.match(file.name) or not file.is_file():
            continue
        if file.suffix.lower() in ARCHIVES:
            raise ValueError(f"decontaminate.sets.{name}: {file}: an archive; unpack it first")
        if file.suffix.lower() in (*TABLES, *PICTURES):
            taken.append(file)
    if not taken:
        raise FileNotFoundError(f"{where}: no pictures and no {', '.join(TABLES)} there")
    return taken


def set_digests(sets: Mapping[str, str]) -> dict[str, str]:
    """Digest of the files of every set: their names below the set's path, and their content.

    Raises as `files_of`.
    """
    found = {}
    for name, path in sorted(sets.items()):
        found[name] = digest([[_below(path, file), file_sha256(file)] for file in files_of(name, path)])
    return found


def items_of(name: str, path: str) -> Iterator[Item]:
    """Every item of a set, file by file. Raises ValueError with one line."""
    for file in files_of(name, path):
        called, where = f"{name}/{_below(path, file)}", f"decontaminate.sets.{name}: {file}"
        if file.suffix.lower() in PICTURES:
            if file.stat().st_size > MAX_PICTURE:
                raise ValueError(f"{where}: larger than {MAX_PICTURE} bytes")
            yield _picture(called, file.read_bytes(), where)
            continue
        some = False
        for number, row in _rows(file, where):
            item = _item(f"{called}:{number}", row, f"{where}:{number}")
            if item.texts or item.sha256 is not None or item.phash is not None:
                some = True
                yield item
        if not some:
            fields = ", ".join((*TEXT_FIELDS, "image", "sha256", "phash"))
            raise ValueError(f"{where}: nothing to compare in it: no row has one of the fields {fields}")


def picture_hash(data: bytes, max_pixels: int) -> int:
    """Perceptual hash of a picture, as the signal `phash` measures it. Raises ImageProblem."""
    row = Row("understanding", b"", Outcome.OK, (), ({"bytes": data},), max_pixels)
    return phash(row.picture(ENOUGH))


def _below(path: str, file: Path) -> str:
    return file.name if file == Path(path) else file.relative_to(path).as_posix()


def _picture(name: str, data: bytes, where: str, texts: tuple[str, ...] = ()) -> Item:
    try:
        return Item(name, texts, hashlib.sha256(data).digest(), picture_hash(data, MAX_PIXELS))
    except ImageProblem as problem:
        raise ValueError(f"{where}: not a picture that can be compared: {problem}") from None


def _item(name: str, row: Any, where: str) -> Item:
    if isinstance(row, str):
        return _line(name, row)
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object or a text, found {type(row).__name__}")
    texts = tuple(text for field in TEXT_FIELDS for text in _strings(row.get(field)))
    for value in row.values():
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return _picture(name, data, where, texts)
    image = row.get("image")
    if isinstance(image, str) and len(image) >= SHORTEST_BASE64:
        try:
            data = base64.b64decode(image, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{where}: field image: not base64: {error}") from None
        return _picture(name, data, where, texts)
    return Item(name, texts, *_hashes(row, where))


def _strings(value: Any) -> Iterator[str]:
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and text.strip():
            yield text


def _line(name: str, line: str) -> Item:
    """A text; or a hash, with whatever stands after it, as sha256sum writes."""
    if match := _HASH.fullmatch(line.strip()):
        given = match.group(1)
        return Item(name, (), bytes.fromhex(given)) if len(given) == 64 else Item(name, (), None, int(given, 16))
    return Item(name, (line,))


def _hashes(row: Mapping[str, Any], where: str) -> tuple[bytes | None, int | None]:
    found: list[str | None] = []
    for field, digits in (("sha256", 64), ("phash", 16)):
        value = row.get(field)
        if value is not None and not (isinstance(value, str) and re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value)):
            raise ValueError(f"{where}: field {field}: expected {digits} hex digits, found {str(value)[:80]!r}")
        found.append(value)
    sha256, hashed = found
    return bytes.fromhex(sha256) if sha256 else None, int(hashed, 16) if hashed else None


def _rows(file: Path, where: str) -> Iterator[tuple[int, Any]]:
    try:
        if file.suffix.lower() == ".parquet":
            yield from enumerate(_parquet(file), 1)
        elif file.suffix.lower() in (".tsv", ".csv"):
            yield from _table(file)
        elif file.suffix.lower() == ".txt":
            with file.open(encoding="utf-8-sig") as lines:
                yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        else:
            yield from _json(file, where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise ValueError(f"{where}: not a table: {error}") from None


def _json(file: Path, where: str) -> Iterator[tuple[int, Any]]:
    """The rows of a list, of the lists of objects in an object (SEED-Bench, COCO), or one a line."""
    if file.stat().st_size > MAX_JSON:
        raise ValueError(f"{where}: larger than {MAX_JSON} bytes; split it, or write it as Parquet")
    text = file.read_text(encoding="utf-8-sig")
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        yield from _json_lines(text, where)
        return
    if isinstance(value, dict) and not any(field in value for field in (*TEXT_FIELDS, "image", "sha256", "phash")):
        lists = [rows for rows in value.values() if isinstance(rows, list)]
        yield from enumerate((row for rows in lists for row in rows if isinstance(row, dict)), 1)
    else:
        yield from enumerate(value if isinstance(value, list) else [value], 1)


def _json_lines(text: str, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"{where}:{number}: not valid JSON: {error}") from None


def _table(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_PICTURE)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows: Iterable[dict[str, Any]] = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        yield from enumerate(rows, 1)


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{file}: not a Parquet file: {str(error).splitlines()[0]}") from None
