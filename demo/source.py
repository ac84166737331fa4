"""The built-in world: a folder written by `python -m demo.world`, one part of it per source.

The parts lie there in the layouts of real sources, so each is read by the format it is an example of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pipelines.reading.errors import SourceError
from pipelines.reading.options import Options, options_of
from pipelines.sources import read_source
from schemas.sample import Sample
from schemas.spec import Source

TASKS = ("understanding", "text", "generation")  # and each part checks which it can be

Part = Literal["imagenet", "captions", "sharegpt4v", "instruct", "interleaved", "text", "chat"]

PARTS: dict[Part, tuple[str, str, dict[str, Any]]] = {
    "imagenet": ("imagenet_folder", "", {"images": "imagenet", "classes": "imagenet/classes.tsv"}),
    "captions": ("url_list", "captions/urls.jsonl", {}),
    "sharegpt4v": ("sharegpt4v", "", {"files": ["sharegpt4v/captions.json"], "images": "sharegpt4v"}),
    "instruct": ("llava", "", {"files": ["instruct/instruct.json"], "images": "instruct"}),
    "interleaved": ("interleaved", "", {"files": ["interleaved/docs.jsonl"], "images": "interleaved"}),
    "text": ("text", "text/documents.jsonl", {}),
    "chat": ("chat", "chat/chat.jsonl", {}),
}
"""Part to format, path below the world, and options. Parts with local images are read from the world's own folder, for
image paths are relative to the source's path."""


class ShapesOptions(Options):
    """Options of `shapes`."""

    part: Part
    """Which part of the world."""


def read(source: Source) -> Iterator[Sample]:
    """The samples of one part."""
    format, path, options = PARTS[options_of(source, ShapesOptions).part]
    world = Path(source.path)
    if not (world / "world.json").is_file():
        raise SourceError(f"source {source.name}: {world}: no world here; run python -m demo.world --out {world}")
    yield from read_source(source.model_copy(update={"format": format, "path": str(world / path), "options": options}))
