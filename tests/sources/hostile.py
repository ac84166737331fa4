"""Local sources that mean harm, or are as broken as if they did: how each is made, and what must come of it.

Beside each source's folder lies a file that no source may read; its content must turn up nowhere.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pictures import PICTURES

SECRET = "root:x:0:0:the text that no source may read"
PHOTO = PICTURES["photo.jpg"]
ESC = "\x1b[2J\x07\u202e\x9b31m"
"""Clears a terminal, rings, reverses the line, colours it."""


@dataclass
class Case:
    """A hostile source."""

    name: str
    make: Callable[[Path], None]
    """Fills the source's folder; `SECRET` lies in ../secret.txt, ../secret.jpg and ../elsewhere/secret.txt."""
    format: str
    task: str = "generation"
    options: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """Rows by outcome (`ok`, those of reading, and `missing_file` and others of loading the images)."""
    skipped: dict[str, int] = field(default_factory=dict)
    stops: str | None = None
    """Pattern of the line that the source stops with, instead."""
    path: str = ""
    """What the spec names, below the folder."""


CASES: list[Case] = []


def add(name: str, make: Callable[[Path], None], format: str, **more: Any) -> None:
    CASES.append(Case(name, make, format, **more))


def put(root: Path, name: str, data: bytes | str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def tar(root: Path, name: str, *members: tuple[str, bytes] | tarfile.TarInfo, **more: Any) -> None:
    with tarfile.open(root / name, "w", **more) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def table(root: Path, name: str, columns: Any, **more: Any) -> None:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), root / name, **more)


# --- links: text, caption, annotation, image and data files, folders, chains, and the source itself

LINKED = r"is a link that leaves|forbidden"


def link(name: str, target: str, *others: tuple[str, bytes | str]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for other, data in others:
            put(root, other, data)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)

    return make


for target in ("../secret.txt", "/etc/passwd", "../elsewhere/secret.txt"):
    short = target.strip("./").replace("/", "-")
    add(f"text link {short}", link("a.txt", target, ("b.txt", "fine")), "text", task="text", stops=None,
        rows={"ok": 1, "forbidden_path": 1})  # fmt: skip
    add(f"caption link {short}", link("a.txt", target, ("a.jpg", PHOTO)), "image_folder", rows={"forbidden_path": 1})
add("jsonl link", link("a.jsonl", "../secret.txt"), "url_list", stops=LINKED)
add("parquet link", link("a.parquet", "../secret.txt"), "parquet_images", stops=LINKED)
add("tar link", link("a.tar", "../secret.txt"), "webdataset", stops=LINKED)
add("captions.jsonl link", link("captions.jsonl", "../secret.txt", ("a.jpg", PHOTO)), "image_folder", stops=LINKED)
add("classes link", link("classes.tsv", "../secret.txt", ("n01/a.JPEG", PHOTO)), "imagenet_folder", stops=LINKED)
add("annotation link", link("annotations/captions_train2017.json", "../../secret.txt"), "coco_captions", stops=LINKED)
add("image link", link("a.jpg", "../secret.jpg", ("a.txt", "c")), "image_folder", rows={"forbidden_path": 1})
add("image link in a class", link("n01/a.JPEG", "../../secret.jpg", ("classes.tsv", "n01\tx")), "imagenet_folder",
    rows={"forbidden_path": 1})  # fmt: skip
add("folder link", link("more", "../elsewhere", ("a.txt", "fine")), "text", task="text", stops=LINKED)
add("class folder link", link("n01", "../elsewhere", ("classes.tsv", "n01\tx")), "imagenet_folder", stops=LINKED)
add("folder link, excluded", link("more", "../elsewhere", ("a.txt", "fine")), "text", task="text",
    options={"exclude": ["more"]}, rows={"ok": 1})  # fmt: skip
add("folder link, allowed", link("more", "../elsewhere", ("a.txt", "fine")), "text", task="text",
    fields={"allow_links_to": ["ELSEWHERE"]}, rows={"ok": 2})  # fmt: skip
add("link beside an allowed one", link("a.txt", "../secret.txt", ("b.txt", "fine")), "text", task="text",
    fields={"allow_links_to": ["ELSEWHERE"]}, rows={"ok": 1, "forbidden_path": 1})  # fmt: skip
add("link to itself", link("a.txt", "a.txt", ("b.txt", "fine")), "text", task="text", stops=r"a\.txt: ")
add("link to nothing", link("a.txt", "gone", ("b.txt", "fine")), "text", task="text", stops=r"a\.txt: no such file")
add("folder that is its own parent", link("sub/up", "..", ("a.txt", "fine")), "text", task="text", rows={"ok": 1})
add("chain of links", lambda r: (link("b", "a")(r), link("a", "../secret.txt")(r), put(r, "c.jsonl", lines(
    {"image": "b", "conversations": [{"from": "human", "value": "?"}]}))), "llava", task="understanding",
    rows={"forbidden_path": 1})  # fmt: skip
add("stats link of img2dataset", lambda r: (table(r, "0.parquet", {"url": ["u"], "caption": ["c"], "key": ["0"],
    "status": ["success"]}), link("0_stats.json", "../secret.txt")(r)), "img2dataset", stops=LINKED)  # fmt: skip
add("joined captions link", link("captions.csv", "../secret.txt", ("a.jsonl", lines({"url": "http://a", "id": "1"}))),
    "url_list", options={"files": ["a.jsonl"], "join": {"file": "captions.csv", "on": "id"}}, stops=LINKED)  # fmt: skip
add("a hub snapshot", lambda r: hub(r, "0" * 64), "text", task="text", path="hub/datasets--a--b/snapshots/rev",
    rows={"ok": 1})  # fmt: skip
add("a hub snapshot of another name", lambda r: hub(r, "not-a-hash"), "text", task="text",
    path="hub/datasets--a--b/snapshots/rev", rows={"forbidden_path": 1}, fields={"max_unreadable": 1})  # fmt: skip
add("a folder that only looks like a hub", lambda r: hub(r, "0" * 64, repo="mydata"), "text", task="text",
    path="hub/mydata/snapshots/rev", rows={"forbidden_path": 1}, fields={"max_unreadable": 1})  # fmt: skip
add("a hub whose blobs are elsewhere", lambda r: hub(r, "0" * 64, blobs="../../../elsewhere"), "text", task="text",
    path="hub/datasets--a--b/snapshots/rev", rows={"forbidden_path": 1}, fields={"max_unreadable": 1})  # fmt: skip


def hub(root: Path, blob: str, repo: str = "datasets--a--b", blobs: str = "") -> None:
    base = root / "hub" / repo
    (base / "snapshots" / "rev").mkdir(parents=True)
    if blobs:
        (base / "blobs").symlink_to(os.path.join("..", blobs))
    else:
        put(base, f"blobs/{blob}", "a text")
    (base / "snapshots" / "rev" / "a.txt").symlink_to(f"../../blobs/{blob}")


# --- paths in data

PATHS = (
    "../secret.jpg",
    "/etc/passwd",
    "a/../../secret.jpg",
    "..",
    "a\0b",
    "~root/x",
    "C:\\secret.jpg",
    "file:///etc/passwd",
)
for place in PATHS:
    outcome = "missing_file" if place[0] in "~Cf" else "forbidden_path"
    short = repr(place).strip("'")
    add(f"llava path {short}", lambda r, p=place: put(r, "a.json", json.dumps([{"image": p, "conversations": [
        {"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}])), "llava", task="understanding",
        rows={outcome: 1})  # fmt: skip
    add(f"captions path {short}", lambda r, p=place: put(r, "captions.jsonl", lines({"image": p, "caption": "c"})),
        "image_folder", rows={outcome: 1})  # fmt: skip
add("an empty path", lambda r: put(r, "captions.jsonl", lines({"image": "", "caption": "c"})), "image_folder",
    rows={"forbidden_path": 1})  # fmt: skip
add("a very long path", lambda r: put(r, "captions.jsonl", lines({"image": "a/" * 3000 + "b.jpg", "caption": "c"})),
    "image_folder", rows={"missing_file": 1})  # fmt: skip
add("path in a Parquet cell", lambda r: table(r, "a.parquet", {"image": [{"bytes": None, "path": "../secret.jpg"}],
    "text": ["c"]}), "parquet_images", rows={"forbidden_path": 1})  # fmt: skip
add("absolute path in a Parquet cell", lambda r: table(r, "a.parquet", {"image": [{"bytes": None, "path":
    "/etc/passwd"}], "text": ["c"]}), "parquet_images", rows={"forbidden_path": 1})  # fmt: skip
add("mmc4 image_name", lambda r: put(r, "a.jsonl", lines({"text_list": ["x"], "image_info": [
    {"image_name": "../../secret.jpg", "matched_text_index": 0}]})), "interleaved", task="understanding",
    options={"images": "pics"}, rows={"forbidden_path": 1})  # fmt: skip
add("image_name pattern", lambda r: put(r, "a.json", json.dumps([{"image_id": "../secret", "question": "?",
    "answer": "!"}])), "vqa", task="understanding", options={"image": "image_id", "image_name": "{}.jpg"},
    rows={"forbidden_path": 1})  # fmt: skip
add("img2dataset key", lambda r: (table(r, "0.parquet", {"url": ["u"], "caption": ["c"], "key": ["../../secret"],
    "status": ["success"]}), put(r, "0_stats.json", "{}"), (r / "0").mkdir()), "img2dataset",
    rows={"forbidden_path": 1})  # fmt: skip
add("options.files outside", lambda r: put(r, "a.jsonl", lines({"url": "http://a", "caption": "c"})), "url_list",
    options={"files": ["../secret.txt"]}, stops=r"no file below this folder matches")  # fmt: skip
add("options.classes outside", lambda r: put(r, "n01/a.JPEG", PHOTO), "imagenet_folder",
    options={"classes": "../secret.txt"}, stops=r"must be relative")  # fmt: skip
add("HTTP in capitals", lambda r: put(r, "a.json", json.dumps([{"image": "HTTP://a/b.jpg", "conversations": [
    {"from": "human", "value": "?"}]}])), "llava", task="understanding", rows={"ok": 1})  # fmt: skip

# --- special files


def unix_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may be 108 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


PIPES = {"pipe": os.mkfifo, "socket": unix_socket, "link to a device": lambda path: path.symlink_to("/dev/zero")}
for kind, make_special in PIPES.items():
    add(f"{kind} as data", lambda r, m=make_special: m(r / "a.jsonl"), "url_list",
        stops=r"not a regular file|is a link")  # fmt: skip
    add(f"{kind} as text", lambda r, m=make_special: (m(r / "a.txt"), put(r, "b.txt", "x")), "text", task="text",
        rows={"ok": 1, "forbidden_path": 1})  # fmt: skip
    add(f"{kind} as image", lambda r, m=make_special: (m(r / "a.jpg"), put(r, "a.txt", "c")), "image_folder",
        rows={"forbidden_path": 1})  # fmt: skip
    add(f"{kind} as Parquet", lambda r, m=make_special: m(r / "a.parquet"), "parquet_images",
        stops=r"not a regular file|is a link")  # fmt: skip
add("pipe beside an image", lambda r: (put(r, "a.jpg", PHOTO), os.mkfifo(r / "a.txt")), "image_folder",
    skipped={"no_caption": 1}, stops="no row: every row was skipped")  # fmt: skip
add("pipe as tar", lambda r: os.mkfifo(r / "a.tar"), "webdataset", stops=r"a named pipe, not a regular file")
add("folder as file", lambda r: (r / "a.jsonl").mkdir(), "url_list", stops=r"no file below this folder")

# --- tars

TWO = (("1.jpg", PHOTO), ("1.txt", b"c"))
add("members twice", lambda r: tar(r, "a.tar", *TWO, *TWO), "webdataset", rows={"ok": 1}, skipped={"duplicate_key": 2})
add("hard link to a member", lambda r: tar(r, "a.tar", *TWO, special("2.jpg", tarfile.LNKTYPE, "1.jpg"),
    ("2.txt", b"c")), "webdataset", rows={"ok": 1}, skipped={"link_member": 1, "no_image": 1})  # fmt: skip
add("symbolic link member", lambda r: tar(r, "a.tar", *TWO, special("2.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    ("2.txt", b"c")), "webdataset", rows={"ok": 1}, skipped={"link_member": 1, "no_image": 1})  # fmt: skip
add("device member", lambda r: tar(r, "a.tar", *TWO, special("2.jpg", tarfile.CHRTYPE)), "webdataset", rows={"ok": 1},
    skipped={"link_member": 1, "no_image": 1})  # fmt: skip
add("pipe member as caption", lambda r: tar(r, "a.tar", *TWO, ("2.jpg", PHOTO), special("2.txt", tarfile.FIFOTYPE)),
    "webdataset", rows={"ok": 2}, skipped={"link_member": 1})  # fmt: skip
add("member names that climb", lambda r: tar(r, "a.tar", ("../../secret.jpg", PHOTO), ("../../secret.txt", b"c")),
    "webdataset", rows={"ok": 1})  # fmt: skip
add("absolute member names", lambda r: tar(r, "a.tar", ("/etc/a.jpg", PHOTO), ("/etc/a.txt", b"c")), "webdataset",
    rows={"ok": 1})  # fmt: skip
add("member names with escapes", lambda r: tar(r, "a.tar", (f"{ESC}.jpg", PHOTO), (f"{ESC}.txt", b"\xff")),
    "webdataset", rows={"bad_row": 1})  # fmt: skip
add("member names that are no text", lambda r: tar(r, "a.tar", ("\udcff\udcfe.jpg", PHOTO), ("\udcff\udcfe.txt", b"c"),
    format=tarfile.GNU_FORMAT, errors="surrogateescape"), "webdataset", rows={"ok": 1})  # fmt: skip
add("two images", lambda r: tar(r, "a.tar", ("1.jpg", PHOTO), ("1.png", PHOTO), ("1.txt", b"c")), "webdataset",
    rows={"bad_row": 1})  # fmt: skip
add("no image", lambda r: tar(r, "a.tar", *TWO, ("readme.txt", b"hi"), ("2.heic", b"x"), ("2.txt", b"c")),
    "webdataset", rows={"ok": 1}, skipped={"no_image": 2})  # fmt: skip
add("a caption of 2 MB", lambda r: tar(r, "a.tar", *TWO, ("2.jpg", PHOTO), ("2.txt", b"x" * (2 << 20))), "webdataset",
    rows={"ok": 1, "row_too_large": 1})  # fmt: skip
add("deep JSON member", lambda r: tar(r, "a.tar", ("1.jpg", PHOTO), ("1.json", b'{"a":' * 5000 + b"1" + b"}" * 5000)),
    "webdataset", options={"caption": "json.a"}, rows={"row_too_large": 1})  # fmt: skip
add("JSON member that is a list", lambda r: tar(r, "a.tar", ("1.jpg", PHOTO), ("1.json", b"[1]")), "webdataset",
    options={"caption": "json.a"}, rows={"bad_row": 1})  # fmt: skip
add("cut member", lambda r: (tar(r, "a.tar", *TWO, ("2.jpg", PHOTO * 20)), os.truncate(r / "a.tar", 9000)),
    "webdataset", stops=r"a\.tar: .*(cut short|not a readable)")  # fmt: skip
add("compressed tar", lambda r: put(r, "a.tar", gzip.compress(b"x" * 2000)),
    "webdataset", stops="not a readable plain tar")  # fmt: skip
add("not a tar", lambda r: put(r, "a.tar", PHOTO), "webdataset", stops="not a readable plain tar")
add("empty tar", lambda r: tar(r, "a.tar"), "webdataset", stops="no row: it is empty")


def sparse_header(root: Path) -> None:
    """A long-name header that says its name has 8 GB, in a file that has a hole of 8 GB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    with (root / "a.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(9 << 30)


add("a name of 8 GB", sparse_header, "webdataset", stops="no ordinary tar file|not a readable plain tar")

# --- JSON, CSV, text

GOOD = {"url": "http://a", "caption": "fine"}
BAD_ROWS: dict[str, tuple[str, str]] = {
    "not JSON": ("nope", "bad_row"),
    "a list": ("[1, 2]", "bad_row"),
    "a number": ("3", "bad_row"),
    "a missing field": ('{"url": "http://a"}', "bad_row"),
    "a field of escapes": (json.dumps({ESC: 1}), "bad_row"),
    "a number for a caption": ('{"url": "http://a", "caption": 3}', "bad_row"),
    "a struct for an address": ('{"url": {"a": 1}, "caption": "c"}', "bad_row"),
    "5,000 digits": ('{"url": "http://a", "caption": "c", "n": ' + "9" * 5000 + "}", "row_too_large"),
    "5,000 levels": ('{"url": "http://a", "caption": "c", "n": ' + "[" * 5000 + "]" * 5000 + "}", "row_too_large"),
    "70 levels": ('{"url": "http://a", "caption": "c", "n": ' + "[" * 70 + "]" * 70 + "}", "row_too_large"),
    "a million values": ('{"url": "http://a", "caption": "c", "n": [' + "1," * 1_000_000 + "1]}", "row_too_large"),
    "a caption of 2 MB": (json.dumps({"url": "http://a", "caption": "x" * (2 << 20)}), "row_too_large"),
    "a line of 17 MB": (json.dumps({"url": "http://a", "caption": "x" * (17 << 20)}), "row_too_large"),
    "lone surrogates": ('{"url": "http://a\\ud800", "caption": "\\udfff"}', "ok"),
    "not a number": ('{"url": "http://a", "caption": "c", "n": NaN}', "ok"),
    "a field twice": ('{"url": "../x", "url": "http://a", "caption": "c"}', "ok"),
}
for kind, (row, outcome) in BAD_ROWS.items():
    counts = {"ok": 2, outcome: 1} if outcome != "ok" else {"ok": 3}
    add(f"line: {kind}", lambda r, row=row: put(r, "a.jsonl", lines(GOOD, row, GOOD)), "url_list", rows=counts)
add("bytes that are no text", lambda r: put(r, "a.jsonl", lines(GOOD).encode() + b'{"url": "\xff"}\n'), "url_list",
    rows={"ok": 1, "bad_row": 1})  # fmt: skip
add("UTF-16", lambda r: put(r, "a.jsonl", lines(*[GOOD] * 30).encode("utf-16")),
    "url_list", stops="cannot be read|cut short")  # fmt: skip
add("NUL bytes", lambda r: put(r, "a.jsonl", b"\0" * 4096), "url_list", stops="not a JSON line.*cut short")
add("cut in its last line", lambda r: put(r, "a.jsonl", lines(GOOD) + '{"url": "http'), "url_list", stops="cut short")
add("all rows broken", lambda r: put(r, "a.jsonl", "nope\n" * 100), "url_list", stops="100 of 100 rows cannot be read")
add("JSON list cut", lambda r: put(r, "a.json", json.dumps([GOOD] * 3)[:-5]), "llava", task="understanding",
    stops="cut short")  # fmt: skip
add("gzip bomb", lambda r: put(r, "a.jsonl.gz", gzip.compress(b" " * (400 << 20), 9)), "url_list",
    stops="becomes more than 250 times as large|no row")  # fmt: skip
add("gzip with one long line", lambda r: put(r, "a.jsonl.gz", gzip.compress(lines(GOOD).encode() + b"x" * (60 << 20) +
    b"\n" + lines(GOOD).encode())), "url_list", rows={"ok": 2, "row_too_large": 1})  # fmt: skip
add("gzip cut", lambda r: put(r, "a.jsonl.gz", gzip.compress(lines(GOOD).encode())[:-6]),
    "url_list", stops="truncated gzip")  # fmt: skip
add("zip with a climbing name", lambda r: zipped(r, "a.jsonl.zip", ("../../secret.jsonl", lines(GOOD))), "url_list",
    rows={"ok": 1})  # fmt: skip
add("zip with something else", lambda r: zipped(r, "a.jsonl.zip", ("a.exe", "MZ")),
    "url_list", stops="unknown kind of file")  # fmt: skip
add("zip cut", lambda r: (zipped(r, "a.jsonl.zip", ("a.jsonl", lines(GOOD))), os.truncate(r / "a.jsonl.zip", 60)),
    "url_list", stops="damaged or truncated zip")  # fmt: skip
add("csv: field of 200,000 characters", lambda r: put(r, "a.csv", f"url,caption\nhttp://a,{'x' * 200_000}\n"),
    "url_list", rows={"ok": 1})  # fmt: skip
add("csv: quote never closed", lambda r: put(r, "a.csv", 'url,caption\nhttp://a,"x\n'), "url_list", stops="a.csv:2: ")
add("csv: too many fields", lambda r: put(r, "a.csv", "url,caption\nhttp://a,c\n1,2,3\n"), "url_list",
    rows={"ok": 1, "bad_row": 1})  # fmt: skip
add("csv: header of escapes", lambda r: put(r, "a.csv", f"{ESC},caption\nhttp://a,c\n"),
    "url_list", stops="no column 'url'")  # fmt: skip
add("a text of 20 MB", lambda r: (put(r, "a.txt", "x" * (20 << 20)), put(r, "b.txt", "fine")), "text", task="text",
    rows={"ok": 1, "row_too_large": 1})  # fmt: skip
add("a caption file of 2 MB", lambda r: (put(r, "a.jpg", PHOTO), put(r, "a.txt", "x" * (2 << 20))), "image_folder",
    rows={"row_too_large": 1})  # fmt: skip
add("a file name of escapes", lambda r: put(r, f"{ESC}.jpg", PHOTO),
    "image_folder", stops="no row: every row was skipped")  # fmt: skip
add("a file name that is no text", lambda r: ((r / os.fsdecode(b"\xff.jpg")).write_bytes(PHOTO), (r / os.fsdecode(
    b"\xff.txt")).write_bytes(b"c")), "image_folder", rows={"bad_row": 1})  # fmt: skip
add("a class of escapes", lambda r: (put(r, f"{ESC}/a.JPEG", PHOTO), put(r, "classes.tsv", "n01\tx")),
    "imagenet_folder", rows={"bad_row": 1})  # fmt: skip
add("an unknown speaker of escapes", lambda r: put(r, "a.jsonl", lines({"messages": [{"role": ESC, "content": "x"}]})),
    "chat", task="text", rows={"bad_row": 1})  # fmt: skip


def zipped(root: Path, name: str, *members: tuple[str, str]) -> None:
    with zipfile.ZipFile(root / name, "w") as archive:
        for member, data in members:
            archive.writestr(member, data)


# --- Parquet


def bomb(root: Path) -> None:
    """4 GB of text, were each row written out, in some KB."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), ["x" * 1_000_000])
    table(root, "a.parquet", {"text": column, "image": pa.array([PHOTO] * 4000)}, compression="zstd")


CELL = {"image": [{"bytes": PHOTO, "path": None}], "text": ["c"]}
add("dictionary of 4 GB", bomb, "parquet_images", rows={"ok": 4000}, fields={"limit": 4000})
add("one row of 40 MB", lambda r: table(r, "a.parquet", {"text": ["c", "x" * (40 << 20)], "image": [PHOTO, PHOTO]},
    compression="zstd"), "parquet_images", rows={"ok": 1, "row_too_large": 1})  # fmt: skip
add("null cells", lambda r: table(r, "a.parquet", {"image": [{"bytes": PHOTO, "path": ""}, None, {"bytes": None, "path":
    None}], "text": ["a", "b", "c"]}), "parquet_images", rows={"ok": 1, "missing_file": 2})  # fmt: skip
add("path-only cells", lambda r: table(r, "a.parquet", {"image": [{"bytes": PHOTO, "path": ""}, {"bytes": None, "path":
    "gone.jpg"}], "text": ["a", "b"]}), "parquet_images", rows={"ok": 1, "missing_file": 1})  # fmt: skip
add("cells of numbers", lambda r: table(r, "a.parquet", {"image": [3], "text": ["c"]}), "parquet_images",
    rows={"bad_row": 1})  # fmt: skip
add("captions of numbers", lambda r: table(r, "a.parquet", {"image": [PHOTO], "text": [3]}), "parquet_images",
    rows={"bad_row": 1})  # fmt: skip
add("no such column", lambda r: table(r, "a.parquet", {"image": [PHOTO], ESC: ["c"]}), "parquet_images",
    stops="no column 'text'")  # fmt: skip
add("cut Parquet", lambda r: (table(r, "a.parquet", CELL), os.truncate(r / "a.parquet", 300)), "parquet_images",
    stops="not a readable Parquet file")  # fmt: skip
add("not Parquet", lambda r: put(r, "a.parquet", PHOTO), "parquet_images", stops="not a readable Parquet file")
add("class names of escapes", lambda r: table(r, "a.parquet", pa.table({"image": [PHOTO], "text": [7]})
    .replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"text": {"_type": "ClassLabel", "names":
    [ESC]}}}})})), "parquet_images", rows={"ok": 1})  # fmt: skip
