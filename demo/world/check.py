"""The rule-based reader: from pixels back to objects, and the GenEval verdict on them. No learned parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

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
_LEAST_OFFSET = 12
"""Pixels two centres must differ along an axis to count as left/right or above/below of each other."""


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


def verdict(objects: Sequence[Seen], metadata: Mapping[str, Any]) -> bool:
    """Whether a picture with these objects satisfies a GenEval prompt.

    The rule is that of GenEval's evaluate_images.py: every `include` entry needs at least `count` objects of its
    class (and colour), placed as `position` ([relation, index of another entry]) says; no `exclude` entry may reach
    its count. Unasked-for objects are no fault.

    Args:
        objects: as `read_scene` gives them.
        metadata: one line of a GenEval metadata file: `include`, optionally `exclude`.
    """
    matched: list[list[Seen]] = []
    for wanted in metadata["include"]:
        found = [seen for seen in objects if _is(seen, wanted)]
        if len(found) < wanted["count"]:
            return False
        matched.append(found)
    for wanted, found in zip(metadata["include"], matched, strict=True):
        if "position" in wanted:
            relation, target = wanted["position"]
            if not any(related(a.center, b.center, relation) for a in found for b in matched[target]):
                return False
    return not any(
        sum(_is(seen, unwanted) for seen in objects) >= unwanted["count"] for unwanted in metadata.get("exclude", ())
    )


def _is(seen: Seen, wanted: Mapping[str, Any]) -> bool:
    return seen.shape == wanted["class"] and wanted.get("color", seen.color) == seen.color


def related(a: tuple[float, float], b: tuple[float, float], relation: str) -> bool:
    """Whether the centre `a` (x, y) lies "left of", "right of", "above" or "below" the centre `b`."""
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[relation]
    return sign * (b[axis] - a[axis]) >= _LEAST_OFFSET
