"""What image files say about themselves, read by hand from their bytes: format, orientation, canvas, frames.

Only what Pillow would find too late or at too high a price. Its reader of EXIF copies the value of every tag, so two
megabytes of tags that all point at the same place cost it a gigabyte and half a minute; here no value but the
orientation is touched. Every function is linear in the file and holds for any bytes.
"""

from __future__ import annotations

import struct

ORIENTATION = 0x0112
"""Tag of EXIF and TIFF."""

_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_INTEGERS = {1: "B", 3: "H", 4: "I"}


def signature(data: bytes) -> str | None:
    """Pillow's name of the format that `data` starts like, None for one we do not take."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Two letters are not much of a signature: the size of the second header must be one that exists.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp" and (b"avif" in data[8:64] or b"avis" in data[8:64]):
        return "AVIF"
    if data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    return None


def exif_orientation(exif: bytes) -> int:
    """Orientation 1..8 of an EXIF block, 1 where it says none or nonsense."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{_INTEGERS.get(kind, 'H')}", exif, entry + 8)
                return value if values == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def split_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG without its APP1 and APP2 segments (EXIF, XMP, profiles, further pictures), and its EXIF block."""
    kept, exif = [data[:2]], b""
    position = 2
    while 0 <= (position := data.find(b"\xff", position)) < len(data) - 3:
        marker = data[position + 1]
        if marker == 0xDA:  # the pixels
            return b"".join(kept) + data[position:], exif
        if marker == 0xFF:  # padding
            position += 1
            continue
        size = 0
        if marker != 0 and marker != 1 and not 0xD0 <= marker <= 0xD9:  # these stand alone
            size = max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        segment = data[position : position + 2 + size]
        if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif += segment[10:]  # a long block comes in several segments
        elif marker not in (0xE1, 0xE2):
            kept.append(segment)
        position += 2 + size
    return b"".join(kept), exif


_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT"})


def split_png(data: bytes) -> tuple[bytes, bytes]:
    """A PNG with what its first picture needs and no more, and its EXIF block, wherever in the file that is.

    Left out are texts and profiles, which Pillow unpacks, and all that comes after the pixels: further frames, and
    broken ends for which it refuses the whole picture.
    """
    kept, exif, pixels = [data[:8]], b"", False
    position = 8
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            break
        if kind == b"eXIf" and not exif:
            exif = data[position + 8 : position + 8 + size]
        elif kind in _PNG_KEPT and (not pixels or kind == b"IDAT"):
            pixels = kind == b"IDAT"
            kept.append(data[position : position + 12 + size])
        position += 12 + size
    if position <= len(data):  # else the last chunk is cut, which Pillow shall see
        kept.append(_PNG_END)
    return b"".join(kept), exif


_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def webp_chunk(data: bytes, kind: bytes) -> bytes:
    """The first chunk of a kind, b"" without one."""
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] == kind:
            return data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    return b""


def webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP (RFC 9649, sections 2.5 to 2.7), (0, 0) if the header is damaged."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")  # VP8L
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def gif_frames(data: bytes, most: int) -> int:
    """Number of images in a GIF, counted up to `most`."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    frames = 0
    while position + 10 < len(data) and frames < most:
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


def avif_without_exif(data: bytes) -> bytes:
    """An AVIF whose EXIF item is of no known type. Its orientation is in `irot` and `imir`, which alone count there."""
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"meta":
            meta = data[position : position + size]
            return data[:position] + meta.replace(b"Exif", b"Exi_") + data[position + size :]
        if size < 8:  # to the end of the file, or a 64-bit size: no place for meta in an image of ours
            break
        position += size
    return data
