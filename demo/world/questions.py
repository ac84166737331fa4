"""Questions about a scene, with their answers: yes/no, multiple choice, counting, and dialogues made of them."""

from __future__ import annotations

from dataclasses import dataclass

from demo.world.dice import Dice
from demo.world.language import class_name
from demo.world.scene import CELLS, COLORS, PAIRS, SHAPES, Object, Scene
from demo.world.words import NUMBERS, article, plural, relations

LETTERS = ("A", "B", "C", "D")
_MIXED = 0.3
"""Share of hard negatives. With more of them, knowing which colours are there helps too little to be learned first."""


@dataclass(frozen=True)
class Question:
    """One question. `text` holds the options A to D of a multiple-choice question; its answer is one of `options`."""

    text: str
    answer: str
    options: tuple[str, ...] = ()


def dialogue(scene: Scene, dice: Dice, turns: int) -> list[Question]:
    """`turns` different questions of all kinds, or fewer if the scene gives no more."""
    asked: dict[str, Question] = {}
    for _ in range(3 * turns):
        ask = dice.choice(_ASKED)
        question = ask(scene, dice)
        if question is not None and len(asked) < turns:
            asked.setdefault(question.text, question)
    return list(asked.values())


def talk(scene: Scene, dice: Dice, turns: int) -> list[Question]:
    """A `dialogue` with one question at least: of one scene in 2,500 the dice let every question fall out."""
    return dialogue(scene, dice, turns) or [exists(scene, dice)]


def exists(scene: Scene, dice: Dice) -> Question:
    """ "is there a red circle?", yes and no equally often; some "no" mix the attributes of objects present."""
    if dice.chance(0.5):
        return asks_for(dice.choice(scene.objects).pair, "yes")
    mixed = mixed_pairs(scene)
    return asks_for(dice.choice(mixed if mixed and dice.chance(_MIXED) else absent_pairs(scene)), "no")


def asks_for(pair: tuple[str, str], answer: str) -> Question:
    """The yes/no question about one colour-shape pair."""
    return Question(f"is there {article(class_name(pair))}?", answer)


def absent_pairs(scene: Scene) -> list[tuple[str, str]]:
    """Trained colour-shape pairs the scene does not show."""
    present = {item.pair for item in scene.objects}
    return [pair for pair in PAIRS if pair not in present]


def mixed_pairs(scene: Scene) -> list[tuple[str, str]]:
    """Absent pairs whose colour and shape are both present, on different objects: the hardest "no"."""
    colors, shapes = {o.color for o in scene.objects}, {o.shape for o in scene.objects}
    return [(color, shape) for color, shape in absent_pairs(scene) if color in colors and shape in shapes]


def shows(scene: Scene, dice: Dice) -> Question | None:
    """ "is there a circle?": a shape alone; None for a "no" in a scene that shows every shape."""
    present = {item.shape for item in scene.objects}
    if dice.chance(0.5):
        return Question(f"is there {article(dice.choice(sorted(present)))}?", "yes")
    absent = [shape for shape in SHAPES if shape not in present]
    return Question(f"is there {article(dice.choice(absent))}?", "no") if absent else None


def lies(scene: Scene, dice: Dice) -> Question | None:
    """ "is the circle left of the cross?"; None unless two objects have shapes of their own."""
    unique = [o for o in scene.objects if scene.count(o.shape) == 1]
    if len(unique) < 2:
        return None
    a, b = dice.sample(unique, 2)
    true = relations(a.cell, b.cell)
    if dice.chance(0.5):
        return Question(f"is the {a.shape} {dice.choice(true)} the {b.shape}?", "yes")
    return Question(f"is the {a.shape} {dice.choice(relations(b.cell, a.cell))} the {b.shape}?", "no")


def count(scene: Scene, dice: Dice) -> Question:
    """ "how many circles?" or "how many objects?": a number word."""
    if dice.chance(0.3):
        return Question("how many objects?", NUMBERS[len(scene.objects)])
    shape = dice.choice(scene.objects).shape if dice.chance(0.8) else dice.choice(SHAPES)
    return Question(f"how many {plural(shape)}?", NUMBERS[scene.count(shape)])


def attribute(scene: Scene, dice: Dice) -> Question | None:
    """ "what color is the circle?": one attribute in words; None if the drawn kind has no unambiguous question here."""
    drawn = _attribute(scene, dice, ("color", "shape", "place"))
    return drawn and Question(drawn[0], drawn[1])


def choice(scene: Scene, dice: Dice) -> Question | None:
    """As `attribute`, with four options, A to D: the answer is a letter."""
    drawn = _attribute(scene, dice, ("color", "shape"))
    return drawn and _four(*drawn, dice)


def _attribute(scene: Scene, dice: Dice, kinds: tuple[str, ...]) -> tuple[str, str, list[str]] | None:
    """A question about one attribute, its answer and all values the attribute can have."""
    kind = dice.choice(kinds)
    known = {"color": "shape", "shape": "color", "place": "pair"}[kind]
    item: Object = dice.choice(scene.objects)
    if sum(getattr(o, known) == getattr(item, known) for o in scene.objects) > 1:
        return None
    if kind == "color":
        return f"what color is the {item.shape}?", item.color, list(COLORS)
    if kind == "shape":
        return f"what shape is {item.color}?", item.shape, list(SHAPES)
    return f"where is the {class_name(item.pair)}?", item.cell, list(CELLS)


def _four(stem: str, right: str, values: list[str], dice: Dice) -> Question:
    wrong = dice.sample([value for value in values if value != right], 3)
    options = tuple(dice.shuffled([right, *wrong]))
    listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
    return Question(f"{stem} {listed}", right, options)


_ASKED = (exists, exists, exists, shows, lies, count, choice, choice, choice, attribute, attribute, attribute)
"""Kinds of a dialogue's questions, by weight. `attribute` and `shows` are what the others can be learned from: with
yes, no and letters alone a small model never starts (docs/lab-notes.md)."""
