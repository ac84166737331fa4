"""WIT, the images of Wikipedia with the text around them: tables of 17 columns, one row per image and page.

    wit_v1.train.all-00000-of-00010.tsv.gz

Each row becomes a short page: title, heading and paragraph, then the image with its caption. The paper's stage II uses
WIT as interleaved data. An image without any caption still has its paragraph.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.reading.errors import SkipRow
from pipelines.reading.options import FileOptions, options_of
from pipelines.reading.records import Record
from pipelines.reading.rows import Item, Table, samples
from pipelines.sources.interleaved import unmarked
from schemas.reasons import Skip
from schemas.sample import IMAGE_MARK, ImageRef, Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)
HEAD = ("page_title", "section_title")
BODY = ("context_section_description", "context_page_description")
"""The first that is not empty is the paragraph: the section's, else the beginning of the page."""
CAPTION = ("caption_reference_description", "caption_attribution_description", "caption_alt_text_description")


def read(source: Source) -> Iterator[Item]:
    """One sample per row."""
    table = Table(source, options_of(source, FileOptions), ["image_url", *HEAD, *BODY, *CAPTION])

    def sample(row: Record) -> Sample:
        head = [text for name in HEAD if (text := _text(row, name))]
        body = next((text for name in BODY if (text := _text(row, name))), "")
        caption = next((text for name in CAPTION if (text := _text(row, name))), "")
        if not body and not caption:
            raise SkipRow(Skip.NO_CAPTION)
        page = "\n\n".join(part for part in (": ".join(head), body, f"{IMAGE_MARK} {caption}".strip()) if part)
        document = (Message(role="document", text=page),)
        image = ImageRef(url=row.text("image_url").strip())
        return Sample(task="understanding", key=row.key, messages=document, images=(image,))

    yield from samples(source, table.rows(), sample)


def _text(row: Record, name: str) -> str:
    return unmarked(row.text(name)).strip()
