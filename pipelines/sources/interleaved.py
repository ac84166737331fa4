"""Pages of text and images, JSON lines in one of two layouts.

Simple: marks in the text stand for the images, in order (paths relative to `images`, or addresses):

    {"text": "Mix the flour ... <image> ... then bake. <image>", "images": ["cake/1.jpg", "cake/2.jpg"]}

MMC4: sentences, and images with the number of the sentence they go with. The image comes before that sentence. Without
`images` the addresses are used, with it the files named `image_name` there:

    {"text_list": ["...", ...],
     "image_info": [{"image_name": "a.jpg", "raw_url": "http://...", "matched_text_index": 3}, ...]}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.reading.records import Record, as_text, files_of, records, short
from pipelines.reading.refs import image_at, local_image, root_of
from schemas.sample import IMAGE_MARK, ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)


class InterleavedOptions(Options):
    """Options of `interleaved`."""

    file: str | None = None
    """The JSON-lines file, relative to the source's path, if that is a folder. Without it: every one below."""
    images: str | None = None
    """Folder that image paths start in, relative to the source's path (or to the folder of the file it names)."""


def read(source: Source) -> Iterator[Sample]:
    """One sample per page."""
    options = options_of(source, InterleavedOptions)
    root = root_of(source)
    for file in files_of(source, (".jsonl", ".jsonl.gz"), options.file):
        for record in records(file, root):
            page = _mmc4 if "text_list" in record.data else _simple
            text, images = page(record, root, options.images)
            yield Sample(
                task="understanding",
                key=record.key,
                messages=(Message(role="document", text=text),),
                images=tuple(images),
            )


def _simple(record: Record, root: Path, folder: str | None) -> tuple[str, list[ImageRef]]:
    places = [as_text(place, f"{record.where}: images") for place in record.items("images")]
    return record.text("text"), [image_at(root, place, record.where, folder or "") for place in places]


def _mmc4(record: Record, root: Path, folder: str | None) -> tuple[str, list[ImageRef]]:
    sentences = [as_text(sentence, f"{record.where}: text_list") for sentence in record.items("text_list")]
    infos = [_info(info, len(sentences), f"{record.where}: image_info") for info in record.items("image_info")]
    parts: list[str] = []
    images: list[ImageRef] = []
    for index, sentence in enumerate(sentences):
        for info in infos:
            if info["matched_text_index"] == index:
                parts.append(IMAGE_MARK)
                images.append(_mmc4_image(info, record.where, root, folder))
        parts.append(sentence)
    return " ".join(parts), images


def _info(info: Any, sentences: int, where: str) -> dict[str, Any]:
    index = info.get("matched_text_index") if isinstance(info, dict) else None
    if not isinstance(index, int) or not 0 <= index < sentences:
        raise SourceError(f"{where}: expected objects with matched_text_index from 0 to {sentences - 1}: {short(info)}")
    return info


def _mmc4_image(info: dict[str, Any], where: str, root: Path, folder: str | None) -> ImageRef:
    if folder is None:
        return ImageRef(url=as_text(info.get("raw_url"), f"{where}: raw_url"))
    name = as_text(info.get("image_name"), f"{where}: image_name")
    return local_image(root, f"{folder}/{name}", where)
