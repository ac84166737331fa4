"""Opening images that anyone may have made: one safe way in, for pipelines, evaluation and inference alike.

`inspect` reads the header only; `load_rgb` gives upright 8-bit RGB. Both refuse with a named outcome and never with
another exception, whatever the bytes are. The pixel cap is applied to the header, before anything is decoded.

Decisions:
- formats: JPEG (and MPO), PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, told apart by their first bytes, never by name.
  Formats that run an interpreter or an outside program (EPS, PDF, WMF) and formats without a signature stay out.
- upright: EXIF orientation is applied (also that of XMP, AVIF `irot`/`imir`, and a PNG `eXIf` chunk after the pixels).
- 16-bit grey is scaled by its bit depth (Pillow's own conversion clips it to white); 32-bit integer and float pixels
  have no agreed white, so their own range is stretched to 0..255.
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

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from schemas.reasons import Outcome

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
    """Pillow's name: JPEG, MPO, PNG, WEBP, GIF, BMP, TIFF, AVIF or JPEG2000."""
    mode: str
    """Pillow's mode as stored: RGB, L, P, CMYK, I;16 ..."""
    width: int
    height: int
    """Pixels of the upright image, i.e. after EXIF orientation."""
    orientation: int
    """EXIF tag 274 as stored, 1 (upright) to 8; 1 where there is none."""
    frames: int
    """1 for a still image; at most MAX_FRAMES are counted."""


def inspect(data: bytes, *, max_pixels: int) -> ImageFacts:
    """Read the header of `data`. No pixel is decoded, and memory stays far below that of the pixels.

    Raises ImageProblem: NOT_AN_IMAGE, BAD_IMAGE (damaged header) or TOO_MANY_PIXELS (more than `max_pixels`).
    """
    with _named_problems():
        image = _open(data, max_pixels)
        orientation = _orientation(image, data)
        width, height = image.size
        # A TIFF's size is already the upright one: Pillow turns it while loading.
        if orientation >= 5 and image.format != "TIFF":
            width, height = height, width
        return ImageFacts(str(image.format), image.mode, width, height, orientation, _frames(image, data))


def load_rgb(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode `data` into an upright image of mode RGB, 8 bits per channel.

    Raises ImageProblem as `inspect` does; BAD_IMAGE also for pixels that are damaged or cut short.
    """
    with _named_problems():
        image = _open(data, max_pixels)
        if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > MAX_SCANS:
            raise ImageProblem(Outcome.BAD_IMAGE, f"JPEG of more than {MAX_SCANS} scans")
        orientation = 1 if image.format == "TIFF" else _orientation(image, data)
        image.load()
        rgb = _to_rgb(image)
        return rgb if orientation == 1 else rgb.transpose(_TURNS[orientation])


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


def _signature(data: bytes) -> str | None:
    """Pillow's name of the format whose signature `data` starts with, None for a format we do not take."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Two letters are not much of a signature: the size of the second header must be one that exists.
    if data.startswith(b"BM") and data[14:18] in {struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)}:
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp" and (b"avif" in data[8:64] or b"avis" in data[8:64]):
        return "AVIF"
    if data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    return None


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """A lazily opened image within the pixel cap."""
    format = _signature(data)
    if format is None:
        raise ImageProblem(Outcome.NOT_AN_IMAGE, f"{len(data)} bytes without the signature of a known format")
    if format == "WEBP":  # Pillow allocates two canvases on opening, so look first
        _check_pixels(_webp_canvas(data), max_pixels)
    image = Image.open(BytesIO(data), formats=[format])
    _check_pixels(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # libtiff allocates a whole tile, whatever the image's size
        tile = image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)
        _check_pixels(tile, max_pixels)
    return image


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise ImageProblem(Outcome.TOO_MANY_PIXELS, f"{size[0]}x{size[1]} pixels, at most {max_pixels} are allowed")


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP canvas (RFC 9649, sections 2.5 to 2.7), (0, 0) if the header is damaged."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")  # VP8L
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1..8. Damaged EXIF counts as none: the pixels are what matters."""
    try:
        if image.format == "PNG" and "exif" not in image.info:
            chunk = _png_chunk(data, b"eXIf")  # may come after the pixels, where Pillow finds it only by decoding
            if chunk is not None:
                image.info["exif"] = b"Exif\0\0" + chunk
        # The method of the base class: PngImageFile's own would decode the image.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_chunk(data: bytes, kind: bytes) -> bytes | None:
    position = 8
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == kind:
            return data[position + 8 : position + 8 + size]
        position += 12 + size
    return None


def _frames(image: Image.Image, data: bytes) -> int:
    """Frames up to MAX_FRAMES. GIF and TIFF do not say how many, and Pillow would walk the whole file."""
    if image.format == "GIF":
        return _gif_frames(data)
    if image.format == "TIFF":
        frames = 1
        while frames < MAX_FRAMES:
            try:
                image.seek(frames)
            except EOFError:
                break
            frames += 1
        image.seek(0)
        return frames
    return min(getattr(image, "n_frames", 1), MAX_FRAMES)


def _gif_frames(data: bytes) -> int:
    """Image descriptors of a GIF, stepping from block to block."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    frames = 0
    while position + 10 < len(data) and frames < MAX_FRAMES:
        if data[position] == 0x2C:
            frames += 1
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        elif data[position] == 0x21:
            position += 2
        else:  # trailer, or damage that decoding will name
            break
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return max(frames, 1)


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
