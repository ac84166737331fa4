"""ArxivCap (Multimodal ArXiv): Parquet with a row per paper and the figures of the paper in it.

    caption_images: list<struct<caption, cil_pairs: list<struct<sub_caption, image_file, image: struct<bytes, path>>>>>

One sample per picture. Its caption is that of the figure, and of a figure of several pictures its own before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.account import Failed
from pipelines.reading.errors import RowError
from pipelines.reading.options import FileOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("understanding", "generation")
FIELD = "caption_images"


def read(source: Source) -> Iterator[Item]:
    """One sample per picture of each paper."""
    table = Table(source, options_of(source, FileOptions), [FIELD], suffixes=(".parquet",))
    images = Images(source, table.gate)

    def pictures(row: Record) -> list[Item]:
        found: list[Item] = []
        for figure in range(len(row.items(FIELD))):
            for picture in range(len(row.items(f"{FIELD}.{figure}.cil_pairs"))):
                place, key = f"{FIELD}.{figure}.cil_pairs.{picture}", f"{row.key}#{figure}.{picture}"
                try:
                    texts = [row.text(f"{place}.sub_caption"), row.text(f"{FIELD}.{figure}.caption")]
                    caption = " ".join(dict.fromkeys(text.strip() for text in texts if text.strip()))
                    found.append(
                        Sample(
                            task=source.task,
                            key=key,
                            messages=(Message(role="caption", text=caption),),
                            images=(images.cell(row, f"{place}.image"),),
                        )
                    )
                except RowError as error:
                    found.append(Failed(key, error))
        if not found:
            raise RowError(f"{row.where}: {FIELD}: a paper without a picture")
        return found

    yield from samples(source, table.rows(), pictures)
