"""Contact sheets: many pictures in one, row by row, with a frame and a label for each where that helps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 4
"""White between the pictures, and around them all; pixels."""
BORDER = 3
"""Width of a frame, pixels."""
FRAMES = {True: (46, 160, 67), False: (207, 34, 46), None: (140, 149, 159)}
"""Colour of the frame by verdict: right is green, wrong is red, neither is grey."""
LABEL_HEIGHT = 14
"""Of the strip for a label below its picture, pixels."""


def contact_sheet(
    pictures: Sequence[np.ndarray | Image.Image],
    *,
    columns: int = 8,
    side: int | None = None,
    verdicts: Sequence[bool | None] | None = None,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """Pictures on white, each in the middle of a square cell of its own.

    Args:
        pictures: uint8[H, W, 3] or RGB images, at least one.
        columns: pictures per row, at most.
        side: longest side of a picture on the sheet, pixels: larger ones are shrunk, smaller ones stay as they are.
            None shrinks none.
        verdicts: right, wrong or neither, of each picture: drawn as frames. None draws no frames.
        labels: a line below each picture, cut to its width. None writes none.

    Raises:
        ValueError: no picture, or not one verdict or label for each.
    """
    for name, given in (("verdicts", verdicts), ("labels", labels)):
        if given is not None and len(given) != len(pictures):
            raise ValueError(f"{len(pictures)} pictures and {len(given)} {name}: expected one for each")
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    images = [_shrunk(picture, side) for picture in pictures]
    border = 0 if verdicts is None else BORDER
    cell = max(max(image.size) for image in images) + 2 * border
    across, down = cell + GAP, cell + GAP + (0 if labels is None else LABEL_HEIGHT)
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (GAP + columns * across, GAP - (-len(images) // columns) * down), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=LABEL_HEIGHT - 4)
    for index, image in enumerate(images):
        left, top = GAP + index % columns * across, GAP + index // columns * down
        x, y = left + (cell - image.width) // 2, top + (cell - image.height) // 2
        if verdicts is not None:
            frame = (image.width + 2 * border, image.height + 2 * border)
            sheet.paste(FRAMES[verdicts[index]], (x - border, y - border, x - border + frame[0], y - border + frame[1]))
        sheet.paste(image, (x, y))
        if labels is not None:
            draw.text((left, top + cell), _cut(labels[index], font, cell), fill="black", font=font)
    return sheet


def _shrunk(picture: np.ndarray | Image.Image, side: int | None) -> Image.Image:
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture.copy()
    if side is not None:
        image.thumbnail((side, side))
    return image


def _cut(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of the label, as one line, as fits into `width` pixels, with dots for what is cut off."""
    label = " ".join(label.split())
    if font.getlength(label) <= width:
        return label
    while label and font.getlength(label + "…") > width:
        label = label[:-1]
    return label.rstrip() + "…"
