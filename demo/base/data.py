"""What the base models are fitted on: training scenes beyond those of the world's own sources.

SigLIP and the language model of the big Janus were trained on other data than Janus; so are these. Held-out
compositions, colour-shape pairs and prompts never occur here either.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from demo.world.dice import Dice
from demo.world.draw import draw
from demo.world.language import caption
from demo.world.questions import Question
from demo.world.scene import make_scene
from demo.world.texts import conversation, document

_FIRST = 1 << 40
"""Number of the first scene; the world's sources count from 0."""


def pictures(seed: int, count: int) -> np.ndarray:
    """uint8[count, 64, 64, 3]."""
    return np.stack([draw(make_scene(seed, "train", _FIRST + index)) for index in range(count)])


def captions(seed: int, count: int) -> list[str]:
    """The captions of the first `count` of `pictures`."""
    return [
        caption(make_scene(seed, "train", _FIRST + index), Dice("base caption", seed, index)) for index in range(count)
    ]


def documents(seed: int, count: int) -> Iterator[str]:
    """`count` plain texts."""
    for index in range(count):
        yield document(make_scene(seed, "train", 2 * _FIRST + index), Dice("base document", seed, index))


def conversations(seed: int, count: int) -> Iterator[list[Question]]:
    """`count` text-only conversations."""
    for index in range(count):
        yield conversation(make_scene(seed, "train", 3 * _FIRST + index), Dice("base conversation", seed, index))
