"""Image transforms: from an RGB picture to the square of pixels each path takes, and to floats and back.

Numbers: paper section 3.3 ("384x384 ... long side resized, short side padded with RGB (127, 127, 127)" for
understanding; "short side resized to 384, long side cropped" for generation) and DeepSeek's `VLMImageProcessor`.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

PAD = (127, 127, 127)
MIN_SIDE = 14
"""DeepSeek's lower bound on the resized short side, pixels."""


def understanding_pixels(image: Image.Image, side: int) -> np.ndarray:
    """Long side to `side`, the rest padded grey on both sides: nothing is cut off.

    The short side is rounded down, as DeepSeek's processor does (`transformers` rounds to nearest).

    Args:
        image: in RGB, upright (`janus.images.load_rgb`).
        side: S, pixels.

    Returns:
        uint8[S, S, 3].
    """
    width, height = _rgb(image).size
    longest = max(width, height)
    width, height = (max(int(length / longest * side), min(MIN_SIDE, side)) for length in (width, height))
    square = Image.new("RGB", (side, side), PAD)
    square.paste(image.resize((width, height), Image.Resampling.BICUBIC), ((side - width) // 2, (side - height) // 2))
    return np.array(square)


def generation_pixels(image: Image.Image, side: int) -> np.ndarray:
    """Short side to `side`, the centre of the long side kept: no border is ever generated.

    Args and Returns as in `understanding_pixels`.
    """
    width, height = _rgb(image).size
    shortest = min(width, height)
    size = (side * width // shortest, side * height // shortest)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.array(image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side)))


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """uint8[N, S, S, 3] to float32[N, 3, S, S] in [-1, 1], as both image paths take them (mean = std = 0.5)."""
    return pixels.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """float[N, 3, S, S] in [-1, 1] to uint8[N, S, S, 3], rounded down as in DeepSeek's script."""
    return images.float().add(1).div(2).mul(255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode != "RGB":
        raise ValueError(f"image mode {image.mode}; expected RGB: open pictures with janus.images.load_rgb")
    return image
