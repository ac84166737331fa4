"""What a picture holds: objects on a ground. A scene is a pure function of (seed, split, index)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from demo.world.dice import Dice

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 45, 45),
    "green": (45, 225, 45),
    "blue": (45, 45, 225),
    "yellow": (225, 225, 45),
    "purple": (225, 45, 225),
    "cyan": (45, 225, 225),
}
"""Colour names and their RGB values: the corners of the colour cube but black and white."""
SHAPES = ("circle", "square", "triangle", "cross")
SIZES: dict[str, int] = {"small": 6, "large": 14}
"""Size names and half-widths in pixels: every shape fills its box."""
CELLS: dict[str, tuple[int, int]] = {
    "top left": (16, 16),
    "top right": (48, 16),
    "bottom left": (16, 48),
    "bottom right": (48, 48),
}
"""Place names and their centres (x, y) in pixels, in reading order. A place holds one object at most."""
GROUNDS = ("dark", "light", "checkered")
"""Two plain grounds and a textured one."""
LIGHTS = 24
"""Directions the light may come from: a slight shade over the picture, so that hardly two pictures are equal."""
STRIDE = 16
"""Side of a patch of the tiny models, pixels: large objects fill the four patches of a place, small ones the last."""

HELD_OUT_PAIRS = (("red", "cross"), ("green", "triangle"), ("blue", "circle"), ("yellow", "square"))
"""Colour-shape pairs no training picture shows and no training text names. Each colour and shape is seen otherwise."""
PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES if (color, shape) not in HELD_OUT_PAIRS)
"""The pairs of the training world: the "classes" of its ImageNet."""

Split = Literal["train", "heldout", "novel"]
"""train; heldout: compositions never trained on, from trained pairs; novel: with at least one held-out pair."""
Kind = Literal["single", "pair", "count", "many"]
_KINDS: tuple[Kind, ...] = ("single", "pair", "pair", "count", "many")
"""Kinds of scene, each as often as it stands here."""
HELD_OUT_SHARE = 10
"""One composition in so many is held out."""


@dataclass(frozen=True)
class Object:
    """One object: its attributes and its place."""

    color: str
    shape: str
    size: str
    cell: str

    @property
    def center(self) -> tuple[int, int]:
        """(x, y) in pixels."""
        x, y = CELLS[self.cell]
        off = STRIDE // 2 if self.size == "small" else 0
        return x + off, y + off

    @property
    def pair(self) -> tuple[str, str]:
        """(colour, shape)."""
        return self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """One to four objects in reading order, on a ground."""

    objects: tuple[Object, ...]
    ground: str = "dark"
    light: int = 0
    """Number of the direction the light comes from."""

    @property
    def held_out(self) -> bool:
        """Whether this composition (attributes and places, whatever the ground and light) is kept from training."""
        text = ";".join(f"{o.color} {o.shape} {o.size} {o.cell}" for o in self.objects)
        return hashlib.blake2b(text.encode(), digest_size=8).digest()[0] % HELD_OUT_SHARE == 0

    @property
    def novel(self) -> bool:
        """Whether an object shows a held-out colour-shape pair."""
        return any(o.pair in HELD_OUT_PAIRS for o in self.objects)

    def count(self, shape: str | None = None, color: str | None = None) -> int:
        """Number of objects of this shape and colour (None: any)."""
        return sum(shape in (None, o.shape) and color in (None, o.color) for o in self.objects)


def make_scene(seed: int, split: Split, index: int, kind: Kind | None = None) -> Scene:
    """The scene number `index` of `split`. `kind` fixes its kind; without it kinds are mixed.

    single: one object. pair: two of different shapes. count: two to four of one colour and shape. many: three or
    four, all different pairs. Draws again until the scene belongs to the split: a composition is in exactly one.
    """
    dice = Dice("scene", seed, split, index)
    while True:
        drawn: Kind = dice.choice(_KINDS) if kind is None else kind
        scene = _draw_lots(dice, drawn, split == "novel")
        if scene.novel == (split == "novel") and (split == "novel" or scene.held_out == (split == "heldout")):
            return scene


def _draw_lots(dice: Dice, kind: Kind, novel: bool) -> Scene:
    pairs = _pairs(dice, kind, novel)
    cells = sorted(dice.sample(list(CELLS), len(pairs)), key=list(CELLS).index)
    objects = tuple(
        Object(color, shape, dice.choice(list(SIZES)), cell) for (color, shape), cell in zip(pairs, cells, strict=True)
    )
    return Scene(objects, dice.choice(GROUNDS), dice.below(LIGHTS))


def _pairs(dice: Dice, kind: Kind, novel: bool) -> list[tuple[str, str]]:
    """The colour-shape pairs of a scene, in random order."""
    first = dice.choice(HELD_OUT_PAIRS if novel else PAIRS)
    if kind == "single":
        return [first]
    if kind == "count":
        return [first] * (2 + dice.below(3))
    if kind == "pair":
        return dice.shuffled([first, dice.choice([pair for pair in PAIRS if pair[1] != first[1]])])
    others = [pair for pair in PAIRS if pair != first]
    return dice.shuffled([first, *dice.sample(others, 2 + dice.below(2))])
