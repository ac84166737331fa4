"""The rule-based reader: from pixels back to objects. No learned parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from demo.world.draw import stencil
from demo.world.scene import CELLS, COLORS, SHAPES, SIZES

_SATURATION = 60
"""Least difference of the largest and smallest channel of an object's pixel; grounds are grey."""
_LEAST_PIXELS = 40
"""Components smaller than this are specks."""
_LEAST_OVERLAP = 0.6
"""Least intersection over union with the best shape template."""
_TEMPLATE = 16
"""Side to which a component's mask is scaled before it is compared, pixels."""


@dataclass(frozen=True)
class Seen:
    """One object read from a picture."""

    color: str
    shape: str
    size: str
    box: tuple[int, int, int, int]
    """left, top, right, bottom in pixels; right and bottom exclusive."""
    center: tuple[float, float]
    """(x, y) of the box, pixels."""

    @property
    def cell(self) -> str:
        """Name of the nearest place."""
        return min(CELLS, key=lambda name: sum((a - b) ** 2 for a, b in zip(CELLS[name], self.center, strict=True)))


def read_scene(image: np.ndarray) -> list[Seen]:
    """The objects of a picture in reading order of their places.

    Args:
        image: uint8[64, 64, 3].

    Objects are the connected components of saturated pixels. Colour is the palette entry nearest to the component's
    median, shape the template that its mask overlaps best. Components that resemble no shape are left out.
    """
    pixels = image.astype(np.int16)
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    found = []
    for mask in _components(saturation > _SATURATION):
        # Edges are half covered: a pixel belongs to the object if it has half the object's saturation.
        mask &= saturation > np.median(saturation[mask]) / 2
        if (seen := _read_object(pixels, mask)) is not None:
            found.append(seen)
    return sorted(found, key=lambda seen: list(CELLS).index(seen.cell))


def _read_object(pixels: np.ndarray, mask: np.ndarray) -> Seen | None:
    if mask.sum() < _LEAST_PIXELS:
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    scaled = _scale(mask[top:bottom, left:right])
    overlap = {shape: _iou(scaled, template) for shape, template in _templates().items()}
    shape = max(overlap, key=overlap.__getitem__)
    if overlap[shape] < _LEAST_OVERLAP:
        return None
    median = np.median(pixels[mask], axis=0)
    color = min(COLORS, key=lambda name: float(((median - COLORS[name]) ** 2).sum()))
    extent = max(bottom - top, right - left) / 2
    size = min(SIZES, key=lambda name: abs(SIZES[name] - extent))
    return Seen(color, shape, size, (left, top, right, bottom), ((left + right) / 2, (top + bottom) / 2))


def _components(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The 4-connected components of bool[H, W], each as bool[H, W], in the order of their first pixel.

    Every pixel starts with its own number; numbers spread along runs of the mask, rows and columns in turn, until
    each component bears the smallest of its own.
    """
    free = mask.size
    labels = np.where(mask, np.arange(mask.size).reshape(mask.shape), free)
    while True:
        before = labels
        for axis in (0, 1):
            for step in (1, -1):
                neighbour = np.full_like(labels, free)
                to, source = [slice(None)] * 2, [slice(None)] * 2
                to[axis], source[axis] = (slice(1, None), slice(None, -1))[::step]
                neighbour[tuple(to)] = labels[tuple(source)]
                labels = np.where(mask, np.minimum(labels, neighbour), free)
        if (labels == before).all():
            break
    for label in np.unique(labels[mask]):
        yield labels == label


def _scale(mask: np.ndarray) -> np.ndarray:
    """Nearest-neighbour copy of bool[h, w] as bool[_TEMPLATE, _TEMPLATE]."""
    rows = ((np.arange(_TEMPLATE) + 0.5) * mask.shape[0] / _TEMPLATE).astype(int)
    columns = ((np.arange(_TEMPLATE) + 0.5) * mask.shape[1] / _TEMPLATE).astype(int)
    return mask[rows][:, columns]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@cache
def _templates() -> dict[str, np.ndarray]:
    return {shape: _scale(stencil(shape, max(SIZES.values())) > 0.5) for shape in SHAPES}
