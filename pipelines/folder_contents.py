"""What lies in a folder, as sources of a spec: formats and field names are guessed, then tried on the first rows."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.reading.account import Skipped
from pipelines.reading.errors import RowError, SourceError
from pipelines.reading.files import Patterns, walk
from pipelines.reading.gate import Gate
from pipelines.reading.records import Record
from pipelines.reading.refs import IMAGE_SUFFIXES, OTHER_IMAGES
from pipelines.reading.tables import SUFFIXES, table_records
from pipelines.reading.tars import members, read_member
from schemas.sample import Task

CAPTIONS = (
    "caption", "captions", "text", "long_caption", "vlm_caption", "re_caption", "recaption", "description", "prompt",
    "alt_text", "title", "short_caption", "original_caption", "label",
)  # fmt: skip
"""Names of fields with captions, the likeliest first. Case does not count."""
TEXTS = ("text", "content", "document", "body")
TRIES = 3
"""Files of a kind that are opened, until one can be read."""
_WNID = re.compile(r"n\d{8}")
_CLASS_NAMES = ("classes.tsv", "LOC_synset_mapping.txt")
_ABOUT = re.compile(r"(licen[cs]e|readme|copying|notice|requirements)", re.IGNORECASE)
_HELD_OUT = re.compile(r"(?:^|[^a-z])(?:test|val|valid|validation|dev)(?:[^a-z]|$)", re.IGNORECASE)
_OF_DATASETS = ("dataset_info.json", "state.json", "dataset_dict.json", "dataset_infos.json")


@dataclass(frozen=True)
class Guess:
    """One source."""

    name: str
    format: str
    task: Task
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    """Below the folder that is looked at; or a file in it."""
    group: str = ""
    chat: bool = False
    """Conversations, or questions and answers."""


@dataclass
class Contents:
    """What was found in a folder."""

    guesses: list[Guess] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is not read, and why: a line each."""


def contents_of(folder: Path) -> Contents:
    """Look through a folder.

    Raises FileNotFoundError if there is none, RowError for a link that leaves it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return _Finder(folder).found


class _Finder:
    def __init__(self, folder: Path) -> None:
        self.gate = Gate(folder)
        self.files = [self.gate.relative(file) for file in walk(self.gate, folder)]
        self.images = {name for name in self.files if _suffix(name) in IMAGE_SUFFIXES}
        self.used: set[str] = set()
        self.found = Contents()
        self._datasets()
        self._coco()
        self._img2dataset()
        self._tars()
        self._classes()
        self._tables()
        self._texts()
        self._rest()

    def _both(self, name: str, format: str, options: Mapping[str, Any], folder: str = "") -> None:
        """Images with captions are described and drawn."""
        self.found.guesses.append(Guess(f"{name}-described", format, "understanding", options, folder))
        self.found.guesses.append(Guess(f"{name}-drawn", format, "generation", options, folder))

    def _datasets(self) -> None:
        for name in self.files:
            folder = name.rpartition("/")[0]
            if name.endswith("state.json") and f"{folder}/dataset_info.json".lstrip("/") in self.files:
                below = [file for file in self.files if file.startswith(f"{folder}/" if folder else "")]
                self.used.update(below)
                self.found.left_out.append(
                    f"{folder or '.'}: written by save_to_disk of datasets, which is not read; write it as Parquet: "
                    "load_from_disk(FOLDER).to_parquet(FILE)"
                )

    def _coco(self) -> None:
        for name in self.files:
            found = re.fullmatch(r"((?:.*/)?)annotations/captions_([^/]+)\.json", name)
            if found is None:
                continue
            root, split = found[1], found[2]
            self.used.add(name)
            if _HELD_OUT.search(re.sub(r"\d", "", split)):
                self.found.left_out.append(f"{name}: a held-out part")
            else:
                options = {"annotations": f"annotations/captions_{split}.json", "images": split}
                self._both(_slug(split), "coco_captions", options, root.rstrip("/"))
            self.used.update(image for image in self.images if image.startswith(f"{root}{split}/"))

    def _img2dataset(self) -> None:
        shards = [name for name in self.files if name.endswith(".parquet") and _stats(name) in self.files]
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in shards):
            below = f"{folder}/" if folder else ""
            self.used.update(name for name in self.files if name.startswith(below))
            self._both(_slug(folder or self.gate.root.name), "img2dataset", {}, folder)

    def _tars(self) -> None:
        for names in self._groups([name for name in self.files if name.lower().endswith(".tar")]):
            self.used.update(names)
            for name in self._first_readable(names):
                names = names[names.index(name) :]
                kinds, document = self._in_tar(name)
                caption = "txt" if "txt" in kinds else _caption(document)
                if caption is None or not any(f".{kind}" in IMAGE_SUFFIXES for kind in kinds):
                    self.found.left_out.append(f"{name}: no image with a .txt or a caption in a .json")
                    continue
                options: dict[str, Any] = self._patterns(names, (".tar",))
                if caption != "txt":
                    options["caption"] = f"json.{caption}"
                self._both(_slug(_stem(names[0])), "webdataset", options)

    def _in_tar(self, name: str) -> tuple[set[str], dict[str, Any]]:
        """Extensions of the first members of a tar, and the first JSON object among them."""
        kinds: set[str] = set()
        document: dict[str, Any] = {}
        for number, member in enumerate(members(self.gate.root / name, self.gate)):
            if number == 50:
                break
            extension = member.name.rpartition("/")[2].partition(".")[2].lower()
            kinds.add(extension)
            if extension == "json" and not document:
                try:
                    found = json.loads(read_member(self.gate.root / name, self.gate, member))
                except (ValueError, RecursionError):
                    continue
                document = found if isinstance(found, dict) else {}
        return kinds, document

    def _classes(self) -> None:
        inside = {image for image in self.images if _WNID.fullmatch(PurePosixPath(image).parent.name)}
        for parent in sorted({str(PurePosixPath(image).parent.parent) for image in inside}):
            here = PurePosixPath(parent)
            names = [str(place / name) for place in (here, *here.parents) for name in _CLASS_NAMES]
            file = next((name for name in names if name in self.files), None)
            images = {image for image in inside if str(PurePosixPath(image).parent.parent) == parent}
            self.used |= images
            if file is None:
                self.found.left_out.append(
                    f"{parent}: {len(images):,} images in folders of WordNet ids, and no {' or '.join(_CLASS_NAMES)} "
                    "that says what these mean"
                )
                continue
            self.used.add(file)
            root = str(PurePosixPath(file).parent)
            options = {"classes": PurePosixPath(file).name, "images": str(here.relative_to(root))}
            folder = "" if root == "." else root
            self.found.guesses.append(Guess("imagenet", "imagenet_folder", "generation", options, folder, "imagenet"))

    def _tables(self) -> None:
        names = [name for name in self.files if name.lower().endswith(SUFFIXES) and name not in self.used]
        names = [n for n in names if PurePosixPath(n).name not in (*_OF_DATASETS, *_CLASS_NAMES)]
        groups = self._groups(names)
        held_out = [group for group in groups if _HELD_OUT.search(PurePosixPath(group[0]).name)]
        if len(held_out) == len(groups):
            held_out = []
        for group in groups:
            self.used.update(group)
            if group in held_out:
                self.found.left_out.append(f"{_some(group)}: a held-out part")
                continue
            for name in self._first_readable(group):
                rows, group = self._rows(name), group[group.index(name) :]
                if not rows:
                    self.found.left_out.append(f"{name}: no row in it")
                elif not self._guess(rows, group):
                    fields = ", ".join(rows[0].data)[:200]
                    self.found.left_out.append(f"{_some(group)}: fields not recognised ({fields})")

    def _rows(self, name: str) -> list[Record]:
        path = self.gate.root / name
        try:
            return _first(table_records(path, self.gate))
        except SourceError:
            if ".json" not in name.lower() or ".jsonl" in name.lower():
                raise
            return _first(table_records(path, self.gate, json_lines=True))

    def _guess(self, rows: Sequence[Record], group: Sequence[str]) -> bool:
        """Add the source that a group of files of rows is. Whether it could be told."""
        data = rows[0].data
        name, options = _slug(_stem(group[0])), self._patterns(group, SUFFIXES)
        pictures = next((key for key in ("image", "images") if any(row.data.get(key) for row in rows)), None)
        turns = next((key for key in ("conversations", "messages") if isinstance(data.get(key), list)), None)
        if turns is None and isinstance(texts := data.get("texts"), list) and texts and isinstance(texts[0], dict):
            turns = "texts"
        add = self.found.guesses.append
        if turns is not None:
            if pictures is not None:
                options |= self._image_root([row.data.get(pictures) for row in rows], "")
                add(Guess(name, "llava", "understanding", options, chat=True))
            if pictures is None or not all(row.data.get(pictures) for row in rows):
                mixed = pictures is not None
                add(Guess(f"{name}-text" if mixed else name, "llava" if mixed else "chat", "text", options, chat=True))
            return True
        if "text_list" in data or (pictures and isinstance(data.get("texts"), list)):
            add(Guess(name, "interleaved", "understanding", options))
            return True
        if pictures == "images" and isinstance(data.get("text"), str) and "<image>" in data["text"]:
            add(Guess(name, "interleaved", "understanding", options | self._image_root([data["images"]], "")))
            return True
        image, url, caption = _image(rows), _address(rows), _caption(data)
        if image is not None and "question" in data and "answer" in data:
            options |= self._image_root([row.data.get(image) for row in rows], "")
            add(Guess(name, "vqa", "understanding", options | {"image": image}, chat=True))
            return True
        if caption is not None and image is not None and not isinstance(data.get(image), str):
            self._both(name, "parquet_images", options | {"image": image, "caption": caption})
            return True
        if caption is not None and image is not None:
            beside = group[0].rpartition("/")[0]
            options |= self._image_root([row.data.get(image) for row in rows], beside)
            files = {"files": [re.sub(r"\d+", "*", group[0]) if len(group) > 1 else group[0]]}
            self._both(name, "image_folder", files | options | {"image": image, "caption": caption})
            return True
        if caption is not None and url is not None and _of_images(rows, url):
            self._both(name, "url_list", options | {"url": url, "caption": caption})
            return True
        text = next((key for key in data if key.lower() in TEXTS and isinstance(data[key], str)), None)
        if text is not None:
            add(Guess(name, "text", "text", options | {"column": text}))
        return text is not None

    def _image_root(self, values: Iterable[Any], beside: str) -> dict[str, str]:
        """The option `images`, if images are named from another folder than `beside`."""
        flat = (item for value in values for item in (value if isinstance(value, list) else [value]))
        named = [item.removeprefix("./") for item in flat if isinstance(item, str) and not item.startswith("http")]
        for name in named:
            found = sorted(image for image in self.images if image.endswith(f"/{name}"))
            here = f"{beside}/{name}".lstrip("/") in self.images
            if here or found:
                root = beside if here else found[0].removesuffix(f"/{name}")
                below = {image for image in self.images if image.startswith(f"{root}/" if root else "")}
                self.used |= {image for image in below if _text_of(image) not in self.files}
                return {} if here else {"images": root}
        return {}

    def _texts(self) -> None:
        texts = {name for name in self.files if _suffix(name) == ".txt"} - self.used
        beside = [image for image in self.images - self.used if _text_of(image) in texts]
        if beside:
            folder = _common(beside)
            lost = [image for image in self.images - self.used if _text_of(image) not in texts]
            texts -= {_text_of(image) for image in beside}
            self.used.update(beside)
            if lost:
                self.found.left_out.append(f"{len(lost):,} images without a .txt beside them")
                self.used.update(lost)
            self._both(_slug(folder or self.gate.root.name), "image_folder", {}, folder)
        documents = sorted(name for name in texts if not _ABOUT.match(PurePosixPath(name).name))
        if documents and not beside:
            options = {"files": ["*.txt"], "exclude": sorted({PurePosixPath(n).name for n in texts - {*documents}})}
            options = {key: value for key, value in options.items() if value}
            self.found.guesses.append(Guess("texts", "text", "text", options))
        elif documents:
            self.found.left_out.append(f"{len(documents):,} .txt files without an image of their name")

    def _rest(self) -> None:
        if bare := len(self.images - self.used):
            self.found.left_out.append(f"{bare:,} images without a caption")
        kinds = Counter(_suffix(name) for name in self.files if _suffix(name) in OTHER_IMAGES)
        for kind, count in sorted(kinds.items()):
            self.found.left_out.append(f"{count:,} {kind} images, a kind that is not read; convert them to JPEG or PNG")
        known = {*IMAGE_SUFFIXES, *OTHER_IMAGES, ".txt"}
        others = Counter(_suffix(n) or n for n in {*self.files} - self.used if _suffix(n) not in known)
        if others:
            some = ", ".join(f"{count:,} {kind}" for kind, count in sorted(others.items())[:8])
            self.found.left_out.append(f"{sum(others.values()):,} other files ({some})")

    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        """Files of one folder whose names differ in numbers alone."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            groups[re.sub(r"\d+", "*", name.rpartition("/")[2]) + "\0" + name.rpartition("/")[0]].append(name)
        return list(groups.values())

    def _first_readable(self, names: Sequence[str]) -> Iterator[str]:
        """The first file of a group that can be opened, if any; what is wrong with those before it is noted."""
        for name in names[:TRIES]:
            try:
                _first(members(self.gate.root / name, self.gate)) if name.endswith(".tar") else self._rows(name)
            except (RowError, SourceError) as error:
                self.found.left_out.append(str(error))
                continue
            yield name
            return

    def _patterns(self, names: Sequence[str], suffixes: tuple[str, ...]) -> dict[str, Any]:
        """Options `files` and `exclude` that stand for these files and no others; none where all are meant."""
        others = [name for name in self.files if name.lower().endswith(suffixes) and name not in names]
        if not others:
            return {}
        pattern = names[0] if len(names) == 1 else re.sub(r"\d+", "*", names[0])
        exclude = [name for name in others if Patterns([pattern]).match(name)]
        return {"files": [pattern], **({"exclude": exclude} if exclude else {})}


def _first(items: Iterable[Any], number: int = 20) -> list[Any]:
    found = []
    for item in items:
        if not isinstance(item, Skipped) and getattr(item, "problem", None) is None:
            found.append(item)
        if len(found) == number:
            break
    return found


def _image(rows: Sequence[Record]) -> str | None:
    """The field of the image: bytes, the struct of them, or a path."""
    for name in rows[0].data:
        value = next((row.data[name] for row in rows if row.data.get(name) is not None), None)
        if isinstance(value, bytes) or (isinstance(value, dict) and "bytes" in value):
            return name
        if isinstance(value, str) and _suffix(value) in IMAGE_SUFFIXES and "://" not in value:
            return name
    return None


def _address(rows: Sequence[Record]) -> str | None:
    """The field of the image's address: the one that says so, else the first with addresses."""
    names = [
        name
        for name in rows[0].data
        if any(isinstance(v := row.data.get(name), str) and re.match(r"https?://", v, re.IGNORECASE) for row in rows)
    ]
    return next((name for name in names if "image" in name.lower() or name.lower() == "url"), next(iter(names), None))


def _of_images(rows: Sequence[Record], field: str) -> bool:
    """Whether addresses are those of images and not of pages, such as C4's: by their ends, or by other fields."""
    about = [name.lower() for name in (field, *rows[0].data) if name.lower() != "url"]
    if any(part in name for name in about for part in ("image", "img", "width", "caption", "aesthetic")):
        return True
    paths = [str(row.data.get(field)).partition("?")[0] for row in rows]
    return any(_suffix(path) in IMAGE_SUFFIXES for path in paths)


def _caption(data: Mapping[str, Any]) -> str | None:
    for wanted in CAPTIONS:
        for name, value in data.items():
            if name.lower() == wanted and isinstance(value, str | list):
                return name
    return None


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    """A file's name without numbers, "of" and suffixes: train-00000-of-00004.parquet is "train"."""
    return re.sub(r"-?\d+(-of-\d+)?", "", PurePosixPath(name).name.partition(".")[0])


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "data"


def _stats(name: str) -> str:
    return f"{name.removesuffix('.parquet')}_stats.json"


def _text_of(image: str) -> str:
    return str(PurePosixPath(image).with_suffix(".txt"))


def _common(names: Sequence[str]) -> str:
    """The deepest folder that all of these lie in."""
    parts = [PurePosixPath(name).parent.parts for name in names]
    same = [level[0] for level in zip(*parts, strict=False) if len({*level}) == 1]
    depth = next((i for i, level in enumerate(zip(*parts, strict=False)) if len({*level}) > 1), min(map(len, parts)))
    return "/".join(same[:depth])


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"
