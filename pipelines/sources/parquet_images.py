"""Parquet files with the images in them, as image sets lie on the Hub: a column of images and one of captions.

A column of class numbers gives the names of the classes, if the file says what they are called. A null cell, or one
with a path in place of the bytes and no such file below `images`, is an image that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.captions import CaptionOptions, CaptionReader
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class ParquetImagesOptions(CaptionOptions, ImageOptions):
    """Options of `parquet_images`: column names."""

    image: str = "image"
    """Bytes, or the struct of bytes and path that `datasets` writes."""
    caption: str | list[str] = "text"


def read(source: Source) -> Iterator[Item]:
    """One sample per row, files by name."""
    options = options_of(source, ParquetImagesOptions)
    table = Table(source, options, [options.image, *options.fields], suffixes=(".parquet",))
    captions, images = CaptionReader(source, options, table.gate), Images(source, table.gate, options.images)

    def sample(row: Record) -> Sample:
        caption = Message(role="caption", text=captions.of(row))
        image = images.cell(row, options.image)
        return Sample(task=source.task, key=row.key, messages=(caption,), images=(image,))

    yield from samples(source, table.rows(), sample)
