"""Reduced decoding for measuring: never smaller than asked, the same picture, the same refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from janus.images import ImageProblem, load_reduced, load_rgb

MAX_PIXELS = 10_000_000


def jpeg(width: int, height: int, **options: object) -> bytes:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [np.sin(columns / 90) * 100 + 120, np.cos(rows / 70) * 100 + 120, (rows + columns) % 256 / 4]
    picture = Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((800, 600), (200, 150)), ((1024, 1024), (128, 128)), ((300, 200), (300, 200)), ((2000, 260), (1000, 130))],
)
def test_sides_are_no_shorter_than_asked(size: tuple[int, int], reduced: tuple[int, int]) -> None:
    image = load_reduced(jpeg(*size), max_pixels=MAX_PIXELS, at_least=128)
    assert image.size == reduced
    whole = load_rgb(jpeg(*size), max_pixels=MAX_PIXELS).resize(reduced, Image.Resampling.BOX)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(whole)).mean() < 3


def test_orientation_still_holds() -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert load_reduced(jpeg(800, 400, exif=exif), max_pixels=MAX_PIXELS, at_least=100).size == (100, 200)


def test_a_cut_file_is_still_refused() -> None:
    data = jpeg(800, 600)
    with pytest.raises(ImageProblem, match="bad_image"):
        load_reduced(data[: len(data) // 2], max_pixels=MAX_PIXELS, at_least=64)


def stored(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def test_grey_is_the_grey_of_the_colours_in_every_format() -> None:
    picture = Image.open(io.BytesIO(jpeg(240, 160)))
    files = [
        stored(picture, "JPEG", quality=95, subsampling=0),
        stored(picture, "JPEG", quality=95, progressive=True),
        stored(picture.convert("L"), "JPEG", quality=95),
        stored(picture.convert("CMYK"), "JPEG", quality=95),
        stored(picture, "PNG"),
        stored(picture.convert("P"), "PNG"),
        stored(picture, "WEBP", quality=95),
        stored(picture, "TIFF"),
    ]
    for data in files:
        grey = load_reduced(data, max_pixels=MAX_PIXELS, at_least=128, mode="L")
        assert (grey.mode, grey.size) == ("L", (240, 160))
        expected = np.asarray(load_rgb(data, max_pixels=MAX_PIXELS).convert("L")).astype(int)
        # The luma of a JPEG is read as it is, and not from colours that were rounded and clipped.
        assert np.abs(np.asarray(grey) - expected).mean() < 0.6


def test_grey_is_upright_over_white_and_refused_when_damaged() -> None:
    exif = Image.Exif()
    exif[274] = 6
    assert load_reduced(jpeg(800, 400, exif=exif), max_pixels=MAX_PIXELS, at_least=100, mode="L").size == (100, 200)
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert load_reduced(stored(clear, "PNG"), max_pixels=MAX_PIXELS, at_least=10, mode="L").getextrema() == (255, 255)
    data = jpeg(800, 600)
    with pytest.raises(ImageProblem, match="bad_image"):
        load_reduced(data[: len(data) // 2], max_pixels=MAX_PIXELS, at_least=64, mode="L")
