"""Reading evaluation sets: tables of questions, folders of pictures, lists of texts or of hashes.

Their files are those of strangers as much as a source's are: the same gate opens them, and the same limits hold.

Every reader raises ValueError or FileNotFoundError with one line that names the set, the file and the row.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from janus.images import ImageProblem
from pipelines.reading.account import Skipped
from pipelines.reading.errors import SourceError
from pipelines.reading.gate import Gate
from pipelines.reading.tables import table_records
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
MAX_WHOLE = 512 * 2**20
"""Bytes of a .json or .txt file, which is read whole."""
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


def gate_at(path: str) -> Gate:
    """What opens the files of a set. A file that the spec names itself is meant, also where it is a link."""
    given = Path(path)
    return Gate(given) if given.is_dir() else Gate(given.parent, (given,))


def files_of(name: str, path: str) -> list[Path]:
    """The files of a set, a file or a folder, in order; licences and other files that are neither are left out.

    Raises FileNotFoundError if there are none, and ValueError for an archive or a link that leaves the folder.
    """
    root, gate = Path(path), gate_at(path)
    where = f"decontaminate.sets.{name}: {path}"
    if not root.exists():
        raise FileNotFoundError(f"{where}: no such file or folder")
    if root.is_dir():
        found = sorted(Path(folder, file) for folder, _, files in os.walk(root) for file in files)
    else:
        found = [root]
    taken = []
    for file in found:
        if file.name.startswith(".") or _ABOUT.match(file.name) or not gate.is_file(file):
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
    gate = gate_at(path)
    for file in files_of(name, path):
        called, where = f"{name}/{_below(path, file)}", f"decontaminate.sets.{name}: {file}"
        if file.suffix.lower() in PICTURES:
            yield _picture(called, _read(file, gate, MAX_PICTURE, where), where)
            continue
        some = False
        for number, row in _rows(file, gate, f"decontaminate.sets.{name}"):
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


def _read(file: Path, gate: Gate, limit: int, where: str) -> bytes:
    with gate.open_data(file) as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{where}: larger than {limit:,} bytes")
    return data


def _rows(file: Path, gate: Gate, name: str) -> Iterator[tuple[int, Any]]:
    kind, where = file.suffix.lower(), f"{name}: {file}"
    if kind in (".txt", ".json"):
        try:
            text = _read(file, gate, MAX_WHOLE, where).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
        if kind == ".json":
            yield from _json(text, where)
        else:
            yield from ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())
        return
    try:
        for number, record in enumerate(table_records(file, gate), 1):
            assert not isinstance(record, Skipped), "there is no condition"
            if record.problem is not None:
                raise record.problem
            yield number, record.data
    except SourceError as error:
        raise ValueError(f"{name}: {error}") from None


def _json(text: str, where: str) -> Iterator[tuple[int, Any]]:
    """The rows of a list, of the lists of objects in an object (SEED-Bench, COCO), or one a line (POPE)."""
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
