"""A scene as pixels."""

from __future__ import annotations

from functools import cache

import numpy as np

from janus.shapes.scene import COLORS, SIZES, TONES, Scene

SIDE = 64
"""Side of a picture, pixels."""
_CONTRAST = 14
"""Grey levels a texture lies above and below its tone."""
_TILE = 8
"""Side of a checker tile and width of a stripe, pixels."""


def draw(scene: Scene) -> np.ndarray:
    """uint8[64, 64, 3]: the picture of `scene`, edges anti-aliased."""
    picture = _ground(scene.texture, scene.tone).copy()
    for item in scene.objects:
        radius = SIZES[item.size]
        x, y = item.center
        window = picture[y - radius : y + radius, x - radius : x + radius]
        cover = stencil(item.shape, radius)[..., None]
        window[:] = cover * np.array(COLORS[item.color]) + (1 - cover) * window
    return (picture + 0.5).astype(np.uint8)


@cache
def stencil(shape: str, radius: int) -> np.ndarray:
    """float64[2 * radius, 2 * radius] in [0, 1]: how much of each pixel the shape covers."""
    fine = 4  # samples per pixel along each axis
    steps = (np.arange(2 * radius * fine) + 0.5) / (radius * fine) - 1
    x, y = np.meshgrid(steps, steps)
    inside = {
        "circle": x**2 + y**2 <= 1,
        "square": np.full(x.shape, True),
        "triangle": np.abs(x) <= (y + 1) / 2,
        "cross": np.minimum(np.abs(x), np.abs(y)) <= 1 / 3,
    }[shape]
    return inside.reshape(2 * radius, fine, 2 * radius, fine).mean(axis=(1, 3))


@cache
def _ground(texture: str, tone: str) -> np.ndarray:
    """float64[64, 64, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] // _TILE
    sign = {"plain": np.zeros_like(x), "striped": 1 - 2 * (y % 2), "checkered": 1 - 2 * ((x + y) % 2)}[texture]
    return np.repeat((TONES[tone] + _CONTRAST * sign)[..., None], 3, axis=2).astype(np.float64)
