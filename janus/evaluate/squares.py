"""Pictures cropped to their middle square and resized."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def square(picture: Image.Image, side: int, resample: Image.Resampling) -> Image.Image:
    """The middle square of a picture, `side` pixels wide.

    The crop is torchvision's `center_crop` to the shorter side, which GigaGAN's evaluation takes: halves of a pixel
    are rounded to even.
    """
    width, height = picture.size
    short = min(width, height)
    left, top = round((width - short) / 2), round((height - short) / 2)
    picture = picture.crop((left, top, left + short, top + short))
    return picture if short == side else picture.resize((side, side), resample)
