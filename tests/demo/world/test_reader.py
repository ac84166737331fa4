"""The reader is right on what the painter painted, and its verdicts are GenEval's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from demo.world.draw import draw, stencil
from demo.world.reader import read_scene
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
