"""Pictures for the hostile server and the image tests: small, made on the spot, of every awkward kind."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32


def quadrants(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red, green / blue, white: shows which way up it is."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left] = (255, 0, 0)
    pixels[:top, left:] = (0, 255, 0)
    pixels[top:, :left] = (0, 0, 255)
    pixels[top:, left:] = (255, 255, 255)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """`image` as a file."""
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# The transpose that stores an upright image so that the tag turns it back.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def turned(orientation: int, format: str = "JPEG", **options: object) -> bytes:
    """`quadrants` stored turned, with the EXIF tag that says so."""
    image = quadrants()
    if orientation in _STORED:
        image = image.transpose(_STORED[orientation])
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image, format, exif=exif, **options)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def deep(value: int) -> bytes:
    """A 16-bit grey PNG of one value."""
    return encoded(Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint16)), "PNG")


def animated(format: str = "GIF") -> bytes:
    """Three frames, the first red."""
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "green", "blue")]
    return encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, loop=0)


PICTURES: dict[str, bytes] = {
    "photo.jpg": encoded(quadrants(), "JPEG", quality=95),
    "cmyk.jpg": encoded(quadrants().convert("CMYK"), "JPEG", quality=95),
    "grey.jpg": encoded(quadrants().convert("L"), "JPEG", quality=95),
    "deep.png": deep(40000),
    "alpha.png": encoded(Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0)), "PNG"),
    "palette.png": encoded(quadrants().convert("P"), "PNG"),
    "animated.gif": animated(),
    "photo.avif": encoded(quadrants(), "AVIF"),
    "photo.webp": encoded(quadrants(), "WEBP", lossless=True),
    "wrong-extension.jpg": encoded(quadrants(), "PNG"),
    **{f"exif-{orientation}.jpg": turned(orientation, quality=95) for orientation in range(1, 9)},
}
"""File name to bytes, all good images."""
