"""The held-out prompts, in GenEval's six categories and metadata layout (arXiv 2310.11513, evaluation_metadata.jsonl).

GenEval's prompts name few things, so whole strings are held out, not words: "a small circle" is never a caption, while
"a large circle" and "a small red circle" are. The novel prompts name colour-shape pairs no picture ever showed.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

from demo.world.dice import Dice
from demo.world.scene import HELD_OUT_PAIRS, PAIRS, SHAPES, SIZES
from demo.world.words import NUMBERS, RELATIONS, article, plural

Metadata = dict[str, Any]
"""One GenEval line: tag, include, optionally exclude, prompt."""

CATEGORIES = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""GenEval's tags, in the order of its table."""


def _single_object() -> list[Metadata]:
    """Half of the (size, shape) pairs: each shape once, each size twice."""
    pairs = [(list(SIZES)[i % len(SIZES)], shape) for i, shape in enumerate(SHAPES)]
    return [_entry("single_object", article(f"{size} {shape}"), [_wanted(shape)]) for size, shape in pairs]


def _two_object() -> list[Metadata]:
    """Two of the six pairs of shapes, in both orders."""
    return [
        _entry("two_object", f"{article(a)} and {article(b)}", [_wanted(a), _wanted(b)])
        for pair in (SHAPES[:2], SHAPES[2:])
        for a, b in permutations(pair)
    ]


def _counting() -> list[Metadata]:
    """Half of the (number, shape) pairs: each number twice."""
    chosen = [(n, shape) for n, (i, shape) in product((2, 3, 4), enumerate(SHAPES)) if (n + i) % 2 == 0]
    return [
        _entry("counting", f"{NUMBERS[n]} {plural(shape)}", [_wanted(shape, count=n)], [_wanted(shape, count=n + 1)])
        for n, shape in chosen
    ]


def _colors() -> list[Metadata]:
    """A quarter of the (size, trained colour-shape pair) triples."""
    triples = _lot("colors", product(SIZES, PAIRS), share=4)
    return [
        _entry("colors", article(f"{size} {color} {shape}"), [_wanted(shape, color)])
        for size, (color, shape) in triples
    ]


def _position() -> list[Metadata]:
    """A quarter of the (shape, relation, other shape) triples."""
    triples = _lot("position", ((a, r, b) for a, b in permutations(SHAPES, 2) for r in RELATIONS), share=4)
    return [
        _entry("position", f"{article(a)} {r} {article(b)}", [_wanted(b), {**_wanted(a), "position": [r, 0]}])
        for a, r, b in triples
    ]


def _color_attr() -> list[Metadata]:
    """A sixth of the pairs of trained colour-shape pairs with different shapes and colours."""
    pairs = [(a, b) for a, b in permutations(PAIRS, 2) if a[0] != b[0] and a[1] != b[1]]
    return [_both_colored("color_attr", a, b) for a, b in _lot("color_attr", pairs, share=6)]


def _both_colored(tag: str, a: tuple[str, str], b: tuple[str, str]) -> Metadata:
    prompt = f"{article(' '.join(a))} and {article(' '.join(b))}"
    return _entry(tag, prompt, [_wanted(a[1], a[0]), _wanted(b[1], b[0])])


def _lot(name: str, items: Any, share: int) -> list[Any]:
    """One in `share` of `items`, drawn once and for all."""
    items = list(items)
    return Dice("held-out prompts", name).sample(items, len(items) // share)


def _entry(tag: str, prompt: str, include: list[Metadata], exclude: list[Metadata] | None = None) -> Metadata:
    return {"tag": tag, "include": include, **({"exclude": exclude} if exclude else {}), "prompt": prompt}


def _wanted(shape: str, color: str | None = None, count: int = 1) -> Metadata:
    return {"class": shape, "count": count, **({"color": color} if color else {})}


HELD_OUT_PROMPTS: dict[str, tuple[Metadata, ...]] = {
    "single_object": tuple(_single_object()),
    "two_object": tuple(_two_object()),
    "counting": tuple(_counting()),
    "colors": tuple(_colors()),
    "position": tuple(_position()),
    "color_attr": tuple(_color_attr()),
}
"""Category to its held-out prompts, named by CATEGORIES."""

NOVEL_PROMPTS: tuple[Metadata, ...] = (
    *(_entry("colors", article(f"{c} {s}"), [_wanted(s, c)]) for c, s in HELD_OUT_PAIRS),
    *(
        _both_colored("color_attr", pair, Dice("novel prompts", *pair).choice([p for p in PAIRS if p[1] != pair[1]]))
        for pair in HELD_OUT_PAIRS
    ),
)
"""Prompts with a colour-shape pair that no training picture shows."""

HELD_OUT_TEXTS = frozenset(entry["prompt"] for entries in HELD_OUT_PROMPTS.values() for entry in entries)
"""The strings no training text may have as a sentence."""


def evaluation_prompts(per_category: int) -> list[Metadata]:
    """`per_category` lines for each category: its held-out prompts over and over, so that a line number is a seed."""
    return [
        HELD_OUT_PROMPTS[category][index % len(HELD_OUT_PROMPTS[category])]
        for category in CATEGORIES
        for index in range(per_category)
    ]
