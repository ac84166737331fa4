"""A row of the raw layer as signals see it: its text, and its first image decoded once for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from PIL import Image

from janus.images import ImageFacts, ImageProblem, inspect, load_reduced
from schemas.reasons import Outcome
from schemas.sample import IMAGE_MARK, Task

__all__ = ["ImageProblem", "Row"]

SIDE = 1024
"""What pictures are decoded to at least, pixels on the short side (a larger JPEG at 1/2, 1/4 or 1/8), and so the most
that a signal can ask for. One size for all and always colour, so that no value depends on who else looked."""


@dataclass
class Row:
    """A row of the raw layer, as signals see it. Its first image is decoded at most once, when first asked for."""

    task: Task
    uid: bytes
    outcome: str
    """Of downloading it."""
    messages: Sequence[Mapping[str, str]]
    """`role` and `text` of each."""
    images: Sequence[Mapping[str, Any]]
    """`bytes`, `sha256`, `url` ... of each (schemas/layers.py, RAW)."""
    max_pixels: int
    """Of an image, from its header; more is refused undecoded."""
    licence: str | None = None
    """As the source states it."""
    columns: Mapping[str, str] | None = None
    """Columns of the source that its spec keeps, each value as JSON."""
    signals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values of the signals that the one at work reads."""
    shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    """What signals prepare together, by the model that they share."""
    _decoded: Image.Image | ImageProblem | None = field(default=None, init=False, repr=False)

    @cached_property
    def text(self) -> str:
        """All text of the row without image marks, blanks collapsed."""
        return " ".join(" ".join(message["text"] for message in self.messages).replace(IMAGE_MARK, " ").split())

    @cached_property
    def caption(self) -> str | None:
        """The caption, None for a row that is a page, a conversation or a text."""
        return next((message["text"] for message in self.messages if message["role"] == "caption"), None)

    @cached_property
    def header(self) -> ImageFacts:
        """What the header of the first image says. Raises ImageProblem."""
        return inspect(self.images[0]["bytes"], max_pixels=self.max_pixels)

    def picture(self, at_least: int, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
        """The first image, upright, as a PIL image, averaged down by a whole factor that leaves no side shorter than
        `at_least` pixels (a smaller picture comes as it is; none is larger than SIDE asks for). Raises ImageProblem.
        """
        picture = self.decode(0)
        factor = max(1, min(picture.size) // at_least)
        return (picture if factor == 1 else picture.reduce(factor)).convert(mode)

    def decode(self, index: int) -> Image.Image:
        """Image number `index`, upright and RGB, as a PIL image. Only the first is kept. Raises ImageProblem."""
        found = None if index else self._decoded
        if found is None:
            try:
                found = load_reduced(self.images[index]["bytes"], max_pixels=self.max_pixels, at_least=SIDE)
            except ImageProblem as problem:
                found = problem
            if index == 0:
                self._decoded = found
        if isinstance(found, ImageProblem):
            raise found
        return found

    def has(self, need: str) -> bool:
        """Whether the row has what a signal needs (`signals.Need`), so far as can be told without decoding."""
        if need in ("header", "picture"):
            return self.outcome == Outcome.OK and bool(self.images)
        met = {
            "images": lambda: True,
            "text": lambda: bool(self.text),
            "caption": lambda: self.caption is not None,
            "licence": lambda: self.licence is not None,
            "columns": lambda: bool(self.columns),
        }
        return met[need]()
