"""Pictures side by side, each in a frame that tells right (green) from wrong (red)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_FRAME = {True: (46, 160, 67), False: (207, 34, 46), None: (140, 149, 159)}
_BORDER, _GAP = 3, 6


def picture_grid(
    images: Sequence[np.ndarray], verdicts: Sequence[bool | None], *, columns: int = 8, side: int = 96
) -> Image.Image:
    """Lay out images row by row on white.

    Args:
        images: uint8[S, S, 3] each; scaled to `side` pixels.
        verdicts: right, wrong, or None for neither, of each image.
        columns: images per row.
        side: pixels.

    Raises:
        ValueError: if there is not one verdict per image, or no image.
    """
    if len(images) != len(verdicts) or not images:
        raise ValueError(f"{len(images)} images and {len(verdicts)} verdicts: expected as many, and at least one")
    columns = min(columns, len(images))
    cell = side + 2 * _BORDER + _GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell + _GAP, rows * cell + _GAP), "white")
    for index, (image, verdict) in enumerate(zip(images, verdicts, strict=True)):
        left, top = _GAP + index % columns * cell, _GAP + index // columns * cell
        frame = Image.new("RGB", (side + 2 * _BORDER, side + 2 * _BORDER), _FRAME[verdict])
        scaled = Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST)
        frame.paste(scaled, (_BORDER, _BORDER))
        sheet.paste(frame, (left, top))
    return sheet
