"""The perceptual hash against its definition, and what it is for."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from janus.images import load_reduced, load_rgb
from pipelines.signals.phash import phash
from tests.pipelines.world import picture


def by_definition(image: Image.Image) -> int:
    """ImageHash's phash(hash_size=8, highfreq_factor=4), from the formula of the DCT-II, term by term."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=float)
    low = np.zeros((8, 8))
    for u in range(8):
        for v in range(8):
            for y in range(32):
                across = math.cos(math.pi * u * (2 * y + 1) / 64)
                for x in range(32):
                    low[u, v] += 4 * grey[y, x] * across * math.cos(math.pi * v * (2 * x + 1) / 64)
    bits = "".join("1" if value > np.median(low) else "0" for value in low.flatten())
    return int(bits, 2)


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed: int) -> None:
    image = picture(seed, 90, 61)
    assert phash(image) == by_definition(image)


def test_small_changes_stay_near_and_other_pictures_are_far() -> None:
    image = picture("a", 200, 150)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    changed = {
        "recompressed": Image.open(buffer),
        "halved": image.resize((100, 75)),
        "brighter": ImageEnhance.Brightness(image).enhance(1.1),
    }
    for name, other in changed.items():
        assert distance(phash(image), phash(other)) <= 4, name
    others = [phash(picture(seed, 200, 150)) for seed in range(50)]
    assert min(distance(phash(image), other) for other in others) > 10


def test_whole_and_reduced_decodes_hash_alike() -> None:
    for seed in range(20):
        buffer = io.BytesIO()
        picture(seed, 1000, 700).save(buffer, "JPEG", quality=90)
        whole = phash(load_rgb(buffer.getvalue(), max_pixels=10**6))
        for mode in ("RGB", "L"):
            reduced = load_reduced(buffer.getvalue(), max_pixels=10**6, at_least=128, mode=mode)
            assert reduced.width == 250
            assert distance(whole, phash(reduced)) <= 2


def test_flat_pictures_hash_alike_and_not_at_random() -> None:
    hashes = {phash(Image.new("RGB", (50, 40), (grey, grey, grey))) for grey in range(1, 256)}
    assert hashes == {1 << 63}, "only the mean is above the median"
