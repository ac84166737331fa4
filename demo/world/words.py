"""Words and small grammar of the world's language."""

from __future__ import annotations

from demo.world.scene import CELLS

NUMBERS = ("zero", "one", "two", "three", "four")
"""Number words by value."""
RELATIONS = ("left of", "right of", "above", "below")
"""How one object can lie to another."""


def plural(shape: str) -> str:
    """ "circles", "crosses"."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def article(noun: str) -> str:
    """ "a red circle". No noun phrase of the world begins with a vowel."""
    return f"a {noun}"


def relations(cell: str, other: str) -> list[str]:
    """The relations in which an object at place `cell` stands to one at place `other`: one, or two on a diagonal."""
    (x, y), (other_x, other_y) = CELLS[cell], CELLS[other]
    horizontal = {-1: ["left of"], 0: [], 1: ["right of"]}[(x > other_x) - (x < other_x)]
    vertical = {-1: ["above"], 0: [], 1: ["below"]}[(y > other_y) - (y < other_y)]
    return horizontal + vertical
