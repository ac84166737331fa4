"""Opening images that anyone may have made: one safe way in, for pipelines, evaluation and inference alike.

`inspect` reads the header only; `load_rgb` gives upright 8-bit RGB. Both refuse with a named outcome and never with
another exception, whatever the bytes are. The pixel cap is applied to the header, before anything is decoded.

Decisions:
- formats: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, told apart by their first bytes, never by name.
  Formats that run an interpreter or an outside program (EPS, PDF, WMF) and formats without a signature stay out.
- upright: EXIF orientation is applied, wherever the format keeps it. That of XMP is not, as in browsers.
- 16-bit grey is scaled by its bit depth (Pillow's own conversion clips it to white); 32-bit integer and float pixels
  have no agreed white, so their own range is stretched to 0..255.
- a JPEG of several pictures (stereo, gain maps of phones) gives the first.
- transparency is laid over white; an animation gives its first frame; colour profiles are ignored, as the published
  models' preprocessing does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from janus import image_headers as headers
from schemas.reasons import Outcome
from schemas.spec import MAX_PIXELS

MAX_FRAMES = 1000
"""Frames counted at most: a 30 MB GIF can hold millions."""

MAX_SCANS = 100
"""Scans of a progressive JPEG. Each makes the decoder walk the whole image, so a small file could cost hours."""


class ImageProblem(ValueError):
    """The bytes are not an image we take. `outcome` is NOT_AN_IMAGE, BAD_IMAGE or TOO_MANY_PIXELS."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome


@dataclass(frozen=True)
class ImageFacts:
    """What the header says."""

    format: str
    """Pillow's name: JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF or JPEG2000."""
    mode: str
    """Pillow's mode as stored: RGB, L, P, CMYK, I;16 ..."""
    width: int
    height: int
    """Pixels of the upright image, i.e. after EXIF orientation."""
    orientation: int
    """EXIF tag 274 as stored, 1 (upright) to 8; 1 where there is none."""
    frames: int
    """1 for a still image; at most MAX_FRAMES are counted."""


def inspect(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Read the header of `data`. No pixel is decoded, and memory stays far below that of the pixels.

    Raises ImageProblem: NOT_AN_IMAGE, BAD_IMAGE (damaged header) or TOO_MANY_PIXELS (more than `max_pixels`).
    """
    with _named_problems():
        image, orientation = _open(data, max_pixels)
        width, height, mode = *image.size, image.mode
        # A TIFF's size is already the upright one: Pillow turns it while loading.
        if orientation >= 5 and image.format != "TIFF":
            width, height = height, width
        return ImageFacts(str(image.format), mode, width, height, orientation, _frames(image, data))


def load_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode `data` into an upright image of mode RGB, 8 bits per channel.

    Raises ImageProblem as `inspect` does; BAD_IMAGE also for pixels that are damaged or cut short.
    """
    with _named_problems():
        image, orientation = _open_to_decode(data, max_pixels)
        image.load()
        return _upright(_to_rgb(image), image, orientation)


def load_reduced(data: bytes, *, max_pixels: int, at_least: int, mode: Literal["RGB", "L"] = "RGB") -> Image.Image:
    """Decode `data` for measuring: upright, and a JPEG at 1/2, 1/4 or 1/8 of its size if that leaves no side shorter
    than `at_least` pixels.

    Every byte is read all the same, at a quarter to a half less cost; in mode L (grey) the colours of a JPEG are not
    even computed. Other formats come whole.

    Raises ImageProblem as `load_rgb` does.
    """
    with _named_problems():
        image, orientation = _open_to_decode(data, max_pixels)
        image.draft(mode, (at_least, at_least))
        image.load()
        if image.format == "JPEG" and image.mode == mode:
            return _upright(image, image, orientation)
        return _upright(_to_rgb(image).convert(mode), image, orientation)


def _open_to_decode(data: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    """As `_open`, without files whose decoding could cost hours."""
    image, orientation = _open(data, max_pixels)
    if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
        raise ImageProblem(Outcome.BAD_IMAGE, f"JPEG of more than {MAX_SCANS} scans")
    return image, orientation


def _upright(pixels: Image.Image, image: Image.Image, orientation: int) -> Image.Image:
    if orientation == 1 or image.format == "TIFF":  # Pillow has turned a TIFF while loading
        return pixels
    return pixels.transpose(_TURNS[orientation])


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow's decoders raise on damaged data. AttributeError, NameError and ImportError are left out on purpose: they
# mean that a program changed, not that an image is bad, and must stop the run.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@contextmanager
def _named_problems() -> Iterator[None]:
    try:
        yield
    except ImageProblem:
        raise
    except UnidentifiedImageError:
        raise ImageProblem(Outcome.BAD_IMAGE, "the signature of a known format, but no readable header") from None
    except Image.DecompressionBombError as error:
        raise ImageProblem(Outcome.TOO_MANY_PIXELS, str(error)) from None
    except _DAMAGE as error:
        raise ImageProblem(Outcome.BAD_IMAGE, f"{type(error).__name__}: {error}") from None


class _MeteredFile(BytesIO):
    """A file that can be read some eight times over and no more.

    A TIFF's tags say where their values are, and thousands may share one long value, which Pillow copies for each.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = 8 * len(data) + (1 << 20)

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ImageProblem(Outcome.BAD_IMAGE, "TIFF whose tags refer to the same bytes over and over")
        return data


def _open(data: bytes, max_pixels: int) -> tuple[Image.Image, int]:
    """A lazily opened image within the pixel cap, and its EXIF orientation, 1 (upright) to 8.

    What else there is of metadata is kept from Pillow where it would parse it (see janus/image_headers.py).
    """
    format = headers.signature(data)
    if format is None:
        raise ImageProblem(Outcome.NOT_AN_IMAGE, f"{len(data)} bytes without the signature of a known format")
    exif = b""
    if format == "JPEG":
        data, exif = headers.split_jpeg(data)
    elif format == "PNG":
        data, exif = headers.split_png(data)
    elif format == "WEBP":
        _check_pixels(headers.webp_canvas(data), max_pixels)  # Pillow allocates two canvases on opening
        exif = headers.webp_chunk(data, b"EXIF")
    elif format == "AVIF":
        data = headers.avif_without_exif(data)
    image = Image.open(_MeteredFile(data) if format == "TIFF" else BytesIO(data), formats=[format])
    _check_pixels(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_pixels((image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)), max_pixels)  # libtiff allocates whole tiles
        orientation = image.tag_v2.get(headers.ORIENTATION, 1)
        return image, orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    if format == "AVIF":
        exif = image.info.get("exif", b"")  # made by Pillow from `irot` and `imir`
    return image, headers.exif_orientation(exif)


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageProblem(Outcome.TOO_MANY_PIXELS, f"{size[0]}x{size[1]} pixels, at most {max_pixels} are allowed")


def _frames(image: Image.Image, data: bytes) -> int:
    """Frames up to MAX_FRAMES. GIF and TIFF do not say how many, and Pillow would walk the whole file."""
    if image.format == "GIF":
        return headers.gif_frames(data, MAX_FRAMES)
    if image.format == "TIFF":
        frames = 1
        while frames < MAX_FRAMES:
            try:
                image.seek(frames)
            except EOFError:
                break
            frames += 1
        return frames
    return min(getattr(image, "n_frames", 1), MAX_FRAMES)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any decoded mode to RGB, transparency over white."""
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _deep_grey(image: Image.Image) -> Image.Image:
    """9..16-bit grey to RGB: white is 2^bits - 1 for TIFF (which keeps the stored values), 65535 for the others."""
    values = np.asarray(image).astype(np.uint32)
    white = 65535
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        white = 2 ** image.tag_v2.get(258, (16,))[0] - 1
        if image.tag_v2.get(262) == 0:  # white is zero; Pillow turns it round for 8 bits only
            values = white - np.minimum(values, white)
    clear = image.info.get("transparency")
    # Integer rounding to nearest, the same on every machine.
    grey = np.minimum((values * 255 + white // 2) // white, 255).astype(np.uint8)
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """32-bit integers or floats to RGB: the finite values' own range becomes 0..255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    grey = np.zeros(values.shape, np.uint8) if high == low else np.rint((values - low) * (255 / (high - low)))
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
