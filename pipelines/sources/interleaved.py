"""Pages of text and images, in one of three layouts of JSON lines, JSON or Parquet.

Simple: marks in the text stand for the images, in order (paths relative to `images`, or addresses):

    {"text": "Mix the flour ... <image> ... then bake. <image>", "images": ["cake/1.jpg", "cake/2.jpg"]}

MMC4: sentences, and images with the number of the sentence they go with. The image comes before that sentence. Without
`images` the addresses are used, with it the files named `image_name` there:

    {"text_list": ["...", ...],
     "image_info": [{"image_name": "a.jpg", "raw_url": "http://...", "matched_text_index": 3}, ...]}

OBELICS: two lists of one length, in which each place holds a text or an image, the other being null:

    {"texts": ["A paragraph.", null, "Another."], "images": [null, "http://...", null]}

A mark that a page of the last two layouts spells out in its text is no image and is taken out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.reading.errors import RowError
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record, as_text, short
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import IMAGE_MARK, ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)


def read(source: Source) -> Iterator[Item]:
    """One sample per page."""
    options = options_of(source, ImageOptions)
    table = Table(source, options)
    images = Images(source, table.gate, options.images)

    def sample(row: Record) -> Sample:
        if "text_list" in row.data:
            text, found = _mmc4(row, images, local=bool(options.images))
        elif "texts" in row.data:
            text, found = _obelics(row, images)
        else:
            text, found = row.text("text"), list(images.of(row, "images"))
        document = (Message(role="document", text=text),)
        return Sample(task="understanding", key=row.key, messages=document, images=tuple(found))

    yield from samples(source, table.rows(), sample)


def _mmc4(row: Record, images: Images, *, local: bool) -> tuple[str, list[ImageRef]]:
    sentences = [unmarked(as_text(sentence, f"{row.where}: text_list")) for sentence in row.items("text_list")]
    before: dict[int, list[dict[str, Any]]] = {}
    for info in row.items("image_info"):
        before.setdefault(_index(info, len(sentences), f"{row.where}: image_info"), []).append(info)
    parts: list[str] = []
    found: list[ImageRef] = []
    field = "image_name" if local else "raw_url"
    for index, sentence in enumerate(sentences):
        for info in before.get(index, ()):
            parts.append(IMAGE_MARK)
            place = as_text(info.get(field), f"{row.where}: {field}")
            found.append(images.at(place, row.where) if local else ImageRef(url=place))
        parts.append(sentence)
    return " ".join(parts), found


def _index(info: Any, sentences: int, where: str) -> int:
    index = info.get("matched_text_index") if isinstance(info, dict) else None
    if not isinstance(index, int) or not 0 <= index < sentences:
        raise RowError(f"{where}: expected objects with matched_text_index from 0 to {sentences - 1}: {short(info)}")
    return index


def _obelics(row: Record, images: Images) -> tuple[str, list[ImageRef]]:
    texts, places = row.items("texts"), row.items("images")
    if len(texts) != len(places) or any(
        (text is None) == (place is None) for text, place in zip(texts, places, strict=True)
    ):
        raise RowError(
            f"{row.where}: texts and images: expected a text or an image at each place, and null at the other"
        )
    found = images.of(Record(row.where, row.key, {"images": [p for p in places if p is not None]}), "images")
    parts = [IMAGE_MARK if text is None else unmarked(as_text(text, f"{row.where}: texts")) for text in texts]
    return "\n\n".join(parts), list(found)


def unmarked(text: str) -> str:
    """`text` without marks that it spells out itself."""
    return " ".join(text.split(IMAGE_MARK)) if IMAGE_MARK in text else text
