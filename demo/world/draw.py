"""A scene as pixels."""

from __future__ import annotations

from functools import cache

import numpy as np

from demo.world.scene import COLORS, LIGHTS, SIZES, Scene

SIDE = 64
"""Side of a picture, pixels."""
_GREYS = {"dark": (70, 70), "light": (195, 195), "checkered": (115, 145)}
"""Grey values of the two kinds of tile of a ground."""
_TILE = 8
"""Side of a tile, pixels: a divisor of the patch, so every patch of a ground looks the same."""
_SHADE = 1.5
"""Grey levels the light adds on one side of the picture and takes on the other."""


def draw(scene: Scene) -> np.ndarray:
    """uint8[64, 64, 3]: the picture of `scene`, edges anti-aliased."""
    picture = _ground(scene.ground).copy()
    for item in scene.objects:
        radius = SIZES[item.size]
        x, y = item.center
        window = picture[y - radius : y + radius, x - radius : x + radius]
        cover = stencil(item.shape, radius)[..., None]
        window[:] = cover * np.array(COLORS[item.color]) + (1 - cover) * window
    return np.clip(picture + _shade(scene.light) + 0.5, 0, 255).astype(np.uint8)


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
def _ground(name: str) -> np.ndarray:
    """float64[64, 64, 3]."""
    y, x = np.mgrid[:SIDE, :SIDE] // _TILE
    return np.repeat(np.array(_GREYS[name], np.float64)[(x + y) % 2][..., None], 3, axis=2)


@cache
def _shade(light: int) -> np.ndarray:
    """float64[64, 64, 1]: a slope in direction number `light` of LIGHTS."""
    angle = 2 * np.pi * light / LIGHTS
    steps = (np.arange(SIDE) + 0.5) / (SIDE / 2) - 1
    x, y = np.meshgrid(steps, steps)
    return (_SHADE * (np.cos(angle) * x + np.sin(angle) * y))[..., None]
