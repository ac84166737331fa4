"""The reader is right on what the painter painted, and its verdicts are GenEval's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from demo.world.check import Seen, read_scene, related, verdict
from demo.world.draw import draw, stencil
from demo.world.scene import SHAPES, Object, Scene, make_scene
from demo.world.world import jpeg


def _is_right(picture: np.ndarray, scene: Scene) -> bool:
    seen = [(s.color, s.shape, s.size, s.cell) for s in read_scene(picture)]
    return seen == [(o.color, o.shape, o.size, o.cell) for o in scene.objects]


@pytest.mark.parametrize("split", ["train", "heldout", "novel"])
def test_reads_99_percent_of_the_truth(split: str) -> None:
    scenes = [make_scene(0, split, index) for index in range(400)]  # type: ignore[arg-type]
    right = sum(_is_right(draw(scene), scene) for scene in scenes)
    assert right >= 0.99 * len(scenes)


def test_reads_through_jpeg() -> None:
    scenes = [make_scene(2, "train", index) for index in range(200)]
    pictures = [np.asarray(Image.open(io.BytesIO(jpeg(scene)))) for scene in scenes]
    assert sum(map(_is_right, pictures, scenes)) >= 0.99 * len(scenes)


def test_sees_nothing_on_an_empty_ground_and_in_specks() -> None:
    picture = draw(Scene((), "checkered")).copy()
    assert read_scene(picture) == []
    picture[10:15, 10:15] = (225, 45, 45)  # 25 pixels
    assert read_scene(picture) == []


def test_box_and_centre() -> None:
    (seen,) = read_scene(draw(Scene((Object("red", "square", "large", "bottom right"),))))
    assert seen.box == (34, 34, 62, 62)
    assert seen.center == (48, 48)


@pytest.mark.parametrize("shape", SHAPES)
def test_stencils_cover_the_area_of_their_shape(shape: str) -> None:
    """By geometry: pi/4, 1, 1/2 and 5/9 of the box."""
    share = {"circle": np.pi / 4, "square": 1, "triangle": 0.5, "cross": 5 / 9}[shape]
    assert stencil(shape, 14).mean() == pytest.approx(share, abs=0.01)


def _seen(color: str, shape: str, x: float, y: float) -> Seen:
    return Seen(color, shape, "small", (0, 0, 0, 0), (x, y))


SCENE = [_seen("red", "circle", 16, 16), _seen("blue", "square", 48, 20), _seen("blue", "square", 48, 52)]


@pytest.mark.parametrize(
    ("metadata", "right"),
    [
        ({"include": [{"class": "circle", "count": 1}]}, True),
        ({"include": [{"class": "cross", "count": 1}]}, False),
        ({"include": [{"class": "circle", "count": 1}, {"class": "square", "count": 1}]}, True),
        ({"include": [{"class": "square", "count": 2}], "exclude": [{"class": "square", "count": 3}]}, True),
        ({"include": [{"class": "square", "count": 1}], "exclude": [{"class": "square", "count": 2}]}, False),
        ({"include": [{"class": "square", "count": 3}]}, False),
        ({"include": [{"class": "square", "count": 1, "color": "blue"}]}, True),
        ({"include": [{"class": "circle", "count": 1, "color": "blue"}]}, False),
    ],
)  # fmt: skip
def test_verdict_is_that_of_geneval(metadata: dict, right: bool) -> None:
    assert verdict(SCENE, metadata) is right


@pytest.mark.parametrize(
    ("relation", "right"), [("right of", True), ("left of", False), ("below", True), ("above", False)]
)
def test_position_is_of_the_second_to_the_first(relation: str, right: bool) -> None:
    include = [{"class": "circle", "count": 1}, {"class": "square", "count": 1, "position": [relation, 0]}]
    assert verdict(SCENE, {"include": include}) is right


def test_relations_need_a_clear_offset() -> None:
    assert related((16, 16), (48, 16), "left of")
    assert not related((16, 16), (48, 16), "above")
    assert not related((16, 16), (24, 48), "left of")  # a small and a large object in one column
    assert related((16, 16), (24, 48), "above")
