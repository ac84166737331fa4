"""WikiHow articles with their step pictures, in the layout of VisualHow (CVPR 2022): one JSON object of problems.

    wikiHow_data.json   {"033313_0": {"article_title": "...", "problem_title": "...",
                                      "step_list": ["...", ...], "image_url": ["http://...", ...]}, ...}

Each problem becomes a page: its titles, then the steps, each after its picture. Where there are fewer pictures than
steps, the first steps have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record, as_text
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from pipelines.sources.interleaved import unmarked
from schemas.sample import IMAGE_MARK, Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)


def read(source: Source) -> Iterator[Item]:
    """One sample per problem."""
    options = options_of(source, ImageOptions)
    table = Table(source, options)
    images = Images(source, table.gate, options.images)

    def sample(row: Record) -> Sample:
        titles = [unmarked(row.text(name)).strip() for name in ("article_title", "problem_title")]
        steps = [unmarked(as_text(step, f"{row.where}: step_list")).strip() for step in row.items("step_list")]
        found = images.of(row, "image_url")
        parts = [": ".join(dict.fromkeys(title for title in titles if title))]
        for step, image in zip_longest(steps, found):
            parts += [part for part in (IMAGE_MARK if image else "", step or "") if part]
        document = (Message(role="document", text="\n\n".join(part for part in parts if part)),)
        return Sample(task="understanding", key=row.key, messages=document, images=found)

    yield from samples(source, table.rows(), sample)
