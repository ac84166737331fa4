"""Parquet files with the images in them, as image sets lie on the Hub: a column of images and one of captions."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.options import Options, options_of
from pipelines.reading.records import files_of, records
from pipelines.reading.refs import cell_image, root_of
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("generation", "understanding")


class ParquetImagesOptions(Options):
    """Options of `parquet_images`: column names."""

    image: str = "image"
    """Bytes, or the struct of bytes and path that `datasets` writes."""
    caption: str = "text"


def read(source: Source) -> Iterator[Sample]:
    """One sample per row, files by name."""
    options = options_of(source, ParquetImagesOptions)
    root = root_of(source)
    for file in files_of(source, (".parquet",)):
        for record in records(file, root, [options.image, options.caption]):
            image = cell_image(record.file, options.image, record.row, record.data[options.image], record.where)
            caption = Message(role="caption", text=record.text(options.caption))
            yield Sample(task=source.task, key=record.key, messages=(caption,), images=(image,))
