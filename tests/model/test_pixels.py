"""Image transforms: sizes, padding and cropping against transformers and by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import JanusImageProcessor, JanusImageProcessorPil

from janus.model.pixels import generation_pixels, normalize, to_uint8, understanding_pixels


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(384, 384), (768, 512), (200, 300), (640, 480), (40, 1000)])
def test_understanding_equals_transformers_where_rounding_agrees(size: tuple[int, int]) -> None:
    reference = JanusImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image = picture(*size)
    expected = torch.as_tensor(np.stack(reference(image).pixel_values))
    ours = normalize(torch.from_numpy(understanding_pixels(image, 384))[None])
    # transformers resizes to floats and keeps them; DeepSeek and we round to whole grey levels.
    assert (ours - expected).abs().max() <= 1 / 127.5 + 1e-6


def test_the_short_side_is_rounded_down_as_deepseek_does() -> None:
    """333x500: 255.7 px. transformers takes 256."""
    square = understanding_pixels(Image.new("RGB", (333, 500), (250, 0, 0)), 384)
    columns = np.flatnonzero((square[192] == (250, 0, 0)).all(-1))
    assert (columns[0], len(columns)) == (64, 255)


def test_trap_8_padding_is_grey_127_and_not_the_clip_mean() -> None:
    square = understanding_pixels(Image.new("RGB", (100, 50), (250, 0, 0)), 64)
    assert square.shape == (64, 64, 3)
    assert (square[:16] == 127).all()
    assert (square[48:] == 127).all()
    assert (square[16:48] == (250, 0, 0)).all()
    assert normalize(torch.from_numpy(square)[None])[0, :, 0, 0].abs().max() < 0.005
    naive = JanusImageProcessor()
    assert naive.background_color != (127, 127, 127)  # what the class gives when nobody sets mean and std


def test_generation_crops_the_middle_and_generates_no_border() -> None:
    """A wide picture in three vertical stripes keeps the middle one."""
    stripes = np.zeros((50, 150, 3), dtype=np.uint8)
    stripes[:, :50], stripes[:, 50:100], stripes[:, 100:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for image in (Image.fromarray(stripes), Image.fromarray(stripes.transpose(1, 0, 2).copy())):
        square = generation_pixels(image, 50)
        assert square.shape == (50, 50, 3)
        assert (square == (0, 255, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (63, 64), (65, 64)])
def test_any_size_gives_a_full_square(size: tuple[int, int]) -> None:
    for transform in (understanding_pixels, generation_pixels):
        square = transform(picture(*size), 64)
        assert (square.shape, square.dtype) == ((64, 64, 3), np.uint8)


def test_downscaling_antialiases() -> None:
    """A one-pixel chequerboard becomes grey, not a moire of black and white."""
    board = np.indices((512, 512)).sum(0) % 2 * np.uint8(255)
    image = Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    for transform in (understanding_pixels, generation_pixels):
        assert np.abs(transform(image, 64).astype(int) - 127).max() < 10


def test_other_modes_are_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"image mode RGBA; expected RGB: open pictures with janus.images.load_rgb"):
        understanding_pixels(Image.new("RGBA", (4, 4)), 64)


def test_bytes_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    floats = normalize(every)
    assert (floats.min(), floats.max()) == (-1.0, 1.0)
    assert (to_uint8(floats).int() - every.int()).abs().max() <= 1
    assert torch.equal(to_uint8(torch.tensor([-3.0, 0.0, 3.0]).view(1, 3, 1, 1)).flatten(), torch.tensor([0, 127, 255]))
