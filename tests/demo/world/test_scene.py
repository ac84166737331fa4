"""Scenes: deterministic, in exactly one split, and never showing what is held out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from demo.world.dice import Dice
from demo.world.scene import CELLS, COLORS, HELD_OUT_PAIRS, PAIRS, SHAPES, SIZES, make_scene

COUNT = 400


def test_dice_are_the_same_everywhere() -> None:
    dice = Dice("key", 7, 3)
    throws = [dice.below(1000) for _ in range(4)]
    # Written down from a first run: another Python or machine must throw the same.
    code = "from demo.world.dice import Dice; d = Dice('key', 7, 3); print([d.below(1000) for _ in range(4)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(throws)


def test_dice_are_fair() -> None:
    dice = Dice("fair")
    counts = [0] * 6
    for _ in range(6000):
        counts[dice.below(6)] += 1
    assert all(abs(count - 1000) < 4 * (1000 * 5 / 6) ** 0.5 for count in counts)  # four standard deviations


def test_shuffle_and_sample_keep_every_item() -> None:
    dice = Dice("shuffle")
    assert sorted(dice.shuffled(range(20))) == list(range(20))
    assert len(set(dice.sample(range(20), 5))) == 5


@pytest.mark.parametrize("split", ["train", "heldout", "novel"])
def test_scenes_belong_to_their_split(split: str) -> None:
    for index in range(COUNT):
        scene = make_scene(0, split, index)  # type: ignore[arg-type]
        shows_held_out_pair = any((o.color, o.shape) in HELD_OUT_PAIRS for o in scene.objects)
        assert shows_held_out_pair == (split == "novel")
        if split != "novel":
            assert scene.held_out == (split == "heldout")


def test_training_and_held_out_compositions_are_disjoint() -> None:
    def compositions(split: str) -> set[object]:
        return {make_scene(seed, split, index).objects for seed in (0, 1) for index in range(COUNT)}  # type: ignore[arg-type]

    assert not compositions("train") & compositions("heldout")


def test_scenes_depend_on_every_part_of_their_key() -> None:
    one = [make_scene(0, "train", index) for index in range(50)]
    assert one == [make_scene(0, "train", index) for index in range(50)]
    assert one != [make_scene(1, "train", index) for index in range(50)]
    assert one != [make_scene(0, "train", index + 50) for index in range(50)]


def test_the_world_is_as_large_as_promised() -> None:
    scenes = [make_scene(0, "train", index) for index in range(COUNT)]
    objects = [item for scene in scenes for item in scene.objects]
    assert len(COLORS) >= 6
    assert len(SHAPES) >= 4
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3, 4}
    assert {o.color for o in objects} == set(COLORS)
    assert {o.shape for o in objects} == set(SHAPES)
    assert {o.size for o in objects} == set(SIZES)
    assert {o.cell for o in objects} == set(CELLS)
    assert {o.pair for o in objects} == set(PAIRS)
    assert {scene.ground for scene in scenes} == {"dark", "light", "checkered"}


def test_every_colour_and_shape_is_trained_with_others() -> None:
    for color, shape in HELD_OUT_PAIRS:
        assert any(pair[0] == color for pair in PAIRS)
        assert any(pair[1] == shape for pair in PAIRS)


def test_kinds_have_their_number_of_objects() -> None:
    for index in range(60):
        assert len(make_scene(0, "train", index, "single").objects) == 1
        a, b = make_scene(0, "train", index, "pair").objects
        assert a.shape != b.shape
        same = make_scene(0, "train", index, "count").objects
        assert len({item.pair for item in same}) == 1
        many = make_scene(0, "train", index, "many").objects
        assert len({item.pair for item in many}) == len(many) >= 3
