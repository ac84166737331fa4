"""What is said of a scene is true of it, and never a held-out prompt."""

from __future__ import annotations

import re

import pytest

from demo.world import language, prompts, questions
from demo.world.dice import Dice
from demo.world.questions import LETTERS
from demo.world.scene import COLORS, HELD_OUT_PAIRS, SHAPES, Scene, make_scene
from demo.world.texts import QUESTIONS, conversation, document
from demo.world.words import NUMBERS, plural, relations

COUNT = 300


def _scenes() -> list[tuple[Scene, Dice]]:
    return [(make_scene(0, "train", index), Dice("test", index)) for index in range(COUNT)]


def _noun(phrase: str) -> tuple[str | None, str]:
    """(colour or None, shape) named by words such as "a small red circle"."""
    words = phrase.split()
    return next((word for word in words if word in COLORS), None), words[-1]


def _holds(text: str, scene: Scene) -> bool:
    """Whether a short caption is true of the scene, by a reading of its own."""
    count = next((n for n, word in enumerate(NUMBERS) if text.startswith(f"{word} ")), None)
    if count is not None:
        color, shapes = _noun(text)
        shape = next(s for s in SHAPES if plural(s) == shapes)
        return scene.count(shape, color) == count == len(scene.objects)
    for relation in ("left of", "right of", "above", "below"):
        if f" {relation} " in text:
            (color_a, a), (color_b, b) = map(_noun, text.split(f" {relation} "))
            return any(
                relation in relations(x.cell, y.cell)
                for x in scene.objects
                for y in scene.objects
                if x.shape == a and y.shape == b and color_a in (None, x.color) and color_b in (None, y.color)
            )
    named = [_noun(part) for part in re.split(", | and ", text)]
    return len(named) == len(scene.objects) and all(scene.count(shape, color) for color, shape in named)


def test_short_captions_are_true() -> None:
    for scene, dice in _scenes():
        text = language.short_caption(scene, dice)
        assert _holds(text, scene), (text, scene)


def test_dense_captions_list_every_object_at_its_place() -> None:
    for scene, dice in _scenes():
        first, listing = language.dense_caption(scene, dice).removesuffix(".").split(". ")
        assert _holds(first, scene)
        *listed, ground = listing.split(", ")
        assert listed == [f"{o.cell} {o.size} {o.color} {o.shape}" for o in scene.objects]
        assert ground == f"{scene.ground} ground"


@pytest.mark.parametrize(("seed", "index"), [(-1, 118), (2, 399)])
def test_a_conversation_has_a_question_whatever_the_dice_say(seed: int, index: int) -> None:
    """Scenes of the base models' conversations for which every try of `dialogue` comes to nothing."""
    scene = make_scene(seed, "train", 3 * (1 << 40) + index)
    dice = ("base conversation", seed, index)
    assert questions.dialogue(scene, Dice(*dice), QUESTIONS) == []
    (question,) = conversation(scene, Dice(*dice))
    assert question.answer in ("yes", "no")
    assert question.text.startswith(language.listing(scene))


def _sentences(text: str) -> set[str]:
    return {part.strip() for part in re.split(r"[.?]", text)}


def test_held_out_prompts_are_never_said() -> None:
    for scene, dice in _scenes():
        spoken = [language.caption(scene, dice), document(scene, dice)]
        spoken += [part for q in conversation(scene, dice) for part in (q.text, q.answer)]
        for text in spoken:
            assert not _sentences(text) & prompts.HELD_OUT_TEXTS, text


def test_held_out_pairs_are_never_named() -> None:
    names = [f"{color} {shape}" for color, shape in HELD_OUT_PAIRS]
    for scene, dice in _scenes():
        asked = " ".join(f"{q.text} {q.answer}" for q in questions.dialogue(scene, dice, 8))
        said = f"{document(scene, dice)} {language.caption(scene, dice)} {asked}"
        assert not any(re.search(rf"\b{name}", said) for name in names), said


def test_answers_are_right() -> None:
    """Against the scene, question by question, read with patterns of the test's own."""
    kinds = 0
    for scene, dice in _scenes():
        pairs = {o.pair for o in scene.objects}
        for q in questions.dialogue(scene, dice, 6):
            if match := re.fullmatch(r"is there an? (\w+) (\w+)\?", q.text):
                assert (q.answer == "yes") == ((match[1], match[2]) in pairs)
            elif match := re.fullmatch(r"is there an? (\w+)\?", q.text):
                assert (q.answer == "yes") == (scene.count(match[1]) > 0)
            elif match := re.fullmatch(r"how many (\w+)\?", q.text):
                shape = next((s for s in SHAPES if plural(s) == match[1]), None)
                assert q.answer == NUMBERS[scene.count(shape)]
            elif match := re.match(r"what color is the (\w+)\?", q.text):
                assert {o.color for o in scene.objects if o.shape == match[1]} == {q.answer}
            elif match := re.match(r"what shape is (\w+)\?", q.text):
                assert {o.shape for o in scene.objects if o.color == match[1]} == {q.answer}
            elif match := re.match(r"where is the (\w+) (\w+)\?", q.text):
                assert [o.cell for o in scene.objects if o.pair == (match[1], match[2])] == [q.answer]
            elif match := re.fullmatch(r"is the (\w+) (left of|right of|above|below) the (\w+)\?", q.text):
                (a,) = [o for o in scene.objects if o.shape == match[1]]
                (b,) = [o for o in scene.objects if o.shape == match[3]]
                assert (q.answer == "yes") == (match[2] in relations(a.cell, b.cell))
            else:
                pytest.fail(f"unknown question {q.text!r}")
            kinds += 1
    assert kinds > 4 * COUNT


def test_options_hold_the_answer_once() -> None:
    for scene, dice in _scenes():
        q = questions.choice(scene, dice)
        if q is None:
            continue
        assert len(set(q.options)) == len(LETTERS)
        assert q.answer in q.options
        assert q.text.endswith(" ".join(f"{a} {b}" for a, b in zip(LETTERS, q.options, strict=True)))


def test_yes_and_no_are_equally_often_right() -> None:
    answers = [questions.exists(scene, dice).answer for scene, dice in _scenes()]
    assert abs(answers.count("yes") - COUNT / 2) < 4 * (COUNT / 4) ** 0.5


@pytest.mark.parametrize("category", prompts.CATEGORIES)
def test_prompts_say_what_their_metadata_asks_for(category: str) -> None:
    for entry in prompts.HELD_OUT_PROMPTS[category]:
        assert entry["tag"] == category
        prompt = entry["prompt"]
        for wanted in entry["include"]:
            noun = plural(wanted["class"]) if wanted["count"] > 1 else wanted["class"]
            named = f"{wanted['color']} {noun}" if "color" in wanted else noun
            assert re.search(rf"\b{named}\b", prompt)
            if "position" in wanted:
                relation, target = wanted["position"]
                other = entry["include"][target]["class"]
                assert prompt == f"a {wanted['class']} {relation} a {other}"
        assert bool(entry.get("exclude")) == (category == "counting")


def test_each_category_is_large_enough_and_lines_are_seeds() -> None:
    lines = prompts.evaluation_prompts(12)
    assert [entry["tag"] for entry in lines] == [c for c in prompts.CATEGORIES for _ in range(12)]
    assert all(len({e["prompt"] for e in prompts.HELD_OUT_PROMPTS[c]}) >= 4 for c in prompts.CATEGORIES)
    assert all(re.search(r"|".join(f"{c} {s}" for c, s in HELD_OUT_PAIRS), e["prompt"]) for e in prompts.NOVEL_PROMPTS)
