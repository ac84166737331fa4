"""What can be said of a scene: class names, captions, plain text. Lower case, about 60 words in all.

No function here ever says a held-out prompt (prompts.py): it says the same thing another way.
"""

from __future__ import annotations

from collections.abc import Sequence

from demo.world.dice import Dice
from demo.world.prompts import HELD_OUT_TEXTS
from demo.world.scene import Object, Scene
from demo.world.words import NUMBERS, article, plural, relations

_SHORT_ONLY = 0.4
"""Share of captions that are the short sentence alone, without a full stop, as people type prompts."""


def class_name(pair: tuple[str, str]) -> str:
    """What ImageNet would call the object: "red circle"."""
    return " ".join(pair)


def caption(scene: Scene, dice: Dice) -> str:
    """A caption: `dense_caption`, or in some cases `short_caption` alone."""
    return short_caption(scene, dice) if dice.chance(_SHORT_ONLY) else dense_caption(scene, dice)


def dense_caption(scene: Scene, dice: Dice) -> str:
    """A short sentence, then every object with its place, then the ground.

    "a red circle and a blue square. top left small red circle, bottom right large blue square, dark ground."
    """
    return f"{short_caption(scene, dice)}. {listing(scene)}."


def listing(scene: Scene) -> str:
    """Every object in reading order, and the ground: "top left small red circle, dark ground"."""
    return ", ".join([*(f"{o.cell} {o.size} {o.color} {o.shape}" for o in scene.objects), f"{scene.ground} ground"])


def short_caption(scene: Scene, dice: Dice) -> str:
    """One true sentence without a full stop, such as "two circles" or "a cross above a red square"."""
    while True:
        text = _short(scene, dice)
        if text not in HELD_OUT_TEXTS:
            return text


def _short(scene: Scene, dice: Dice) -> str:
    first = scene.objects[0]
    if len(scene.objects) == 1:
        return article(_named(first, dice.choice(("", "color", "color", "size", "size color"))))
    if scene.count(first.shape, first.color) == len(scene.objects):
        count = NUMBERS[len(scene.objects)]
        return f"{count} {plural(first.shape)}" if dice.chance(0.5) else f"{count} {first.color} {plural(first.shape)}"
    what = dice.choice(("", "color"))
    if len(scene.objects) == 2:
        a, b = dice.shuffled(scene.objects)
        link = dice.choice(("and", *relations(a.cell, b.cell)))
        return f"{article(_named(a, what))} {link} {article(_named(b, what))}"
    return _enumeration([article(_named(o, "color")) for o in dice.shuffled(scene.objects)])


def _named(item: Object, attributes: str) -> str:
    """The object with the named attributes before its shape."""
    return " ".join([*(getattr(item, name) for name in attributes.split()), item.shape])


def _enumeration(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
