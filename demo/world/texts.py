"""Plain text of the world: documents and text-only conversations."""

from __future__ import annotations

from demo.world.dice import Dice
from demo.world.language import dense_caption, listing
from demo.world.questions import Question, dialogue, talk
from demo.world.scene import Scene

QUESTIONS = 4
"""Questions in a document or conversation."""


def document(scene: Scene, dice: Dice) -> str:
    """A description, then questions and their answers: "... dark plain ground. is there a red circle? yes. ..." """
    asked = " ".join(f"{q.text} {q.answer}." for q in dialogue(scene, dice, QUESTIONS))
    return f"{dense_caption(scene, dice)} {asked}"


def conversation(scene: Scene, dice: Dice) -> list[Question]:
    """Questions about a scene that the first of them describes in words."""
    first, *others = talk(scene, dice, QUESTIONS)
    return [Question(f"{listing(scene)}. {first.text}", first.answer, first.options), *others]
