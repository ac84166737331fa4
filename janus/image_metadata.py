"""Where image files keep XMP packets and C2PA manifest stores, read by hand from their bytes.

Every function is linear in the file and holds for any bytes. What is packed is unpacked up to PACKET_BYTES; what cannot
be had as a whole raises UnreadableMetadata.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

PACKET_BYTES = 4 << 20
"""Largest XMP packet or C2PA store that is read."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_TIFF_XMP, _TIFF_C2PA = 700, 0xCD41
_GIF_XMP, _GIF_C2PA = b"!\xff\x0bXMP DataXMP", b"!\xff\x0bC2PA_GIF\x01\0\0"
_GIF_XMP_END = b"\x01\xff\xfe\xfd"
"""XMP lies in a GIF as it is. The bytes behind it lead readers of blocks to the end (XMP part 3, section 1.1.2)."""


class UnreadableMetadata(ValueError):
    """Metadata that is there and cannot be read."""


def xmp_packets(data: bytes, format: str) -> Iterator[bytes]:
    """The XMP packets of an image of `format` (Pillow's name, janus/image_headers.py). Raises UnreadableMetadata."""
    if format == "JPEG":
        yield from _jpeg_xmp(data)
    elif format == "PNG":
        for kind, body in _png_chunks(data):
            if kind in (b"iTXt", b"zTXt", b"tEXt") and (packet := _png_text(kind, body)) is not None:
                yield packet
    elif format == "WEBP":
        yield from (body for kind, body in _riff_chunks(data) if kind == b"XMP ")
    elif format == "TIFF":
        yield from _tiff_values(data, _TIFF_XMP)
    elif format == "GIF":
        start = 0
        while (start := data.find(_GIF_XMP, start)) >= 0:
            start += len(_GIF_XMP)
            end = data.find(_GIF_XMP_END, start)
            if end < 0:
                raise UnreadableMetadata("XMP without an end")
            yield data[start:end]
            start = end
    elif format in ("AVIF", "JPEG2000"):
        # Packets lie in these as they are, and are found by their first and last tag (XMP part 3, packet scanning).
        start = 0
        while (start := data.find(b"<x:xmpmeta", start)) >= 0:
            end = data.find(b"</x:xmpmeta>", start)
            if end < 0:
                raise UnreadableMetadata("XMP without an end")
            yield data[start : end + 12]
            start = end


def c2pa_stores(data: bytes, format: str) -> Iterator[bytes]:
    """The C2PA manifest stores (JUMBF boxes) that are embedded in an image of `format`. Raises UnreadableMetadata."""
    if format == "JPEG":
        yield from _jpeg_jumbf(data)
    elif format == "PNG":
        yield from (body for kind, body in _png_chunks(data) if kind == b"caBX")
    elif format == "WEBP":
        yield from (body for kind, body in _riff_chunks(data) if kind == b"C2PA")
    elif format == "TIFF":
        yield from _tiff_values(data, _TIFF_C2PA)
    elif format == "GIF":
        if (start := data.find(_GIF_C2PA)) >= 0:
            yield _gif_blocks(data, start + len(_GIF_C2PA))
    elif format in ("AVIF", "JPEG2000"):
        for kind, body in boxes(data):
            if kind == b"jumb":
                yield struct.pack(">I4s", len(body) + 8, kind) + body
            elif kind == b"uuid" and (start := body.find(b"jumb", 16)) >= 4:
                yield body[start - 4 :]


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes of ISO files and JUMBF that lie one after the other in `data`."""
    position = 0
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1 and position + 16 <= len(data):  # 64 bits
            (size,), head = struct.unpack_from(">Q", data, position + 8), 16
        if size == 0:  # to the end
            size = len(data) - position
        if size < head:
            return
        yield kind, data[position + head : position + size]
        position += size


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of the segments before the pixels."""
    position = 2
    while 0 <= (position := data.find(b"\xff", position)) < len(data) - 3:
        marker = data[position + 1]
        if marker == 0xDA:
            return
        if marker == 0xFF:
            position += 1
        elif marker in (0, 1) or 0xD0 <= marker <= 0xD9:
            position += 2
        else:
            size = max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
            yield marker, data[position + 4 : position + 2 + size]
            position += 2 + size


def _jpeg_xmp(data: bytes) -> Iterator[bytes]:
    """The standard packet, and the extended ones, which come in pieces with their offsets."""
    pieces: dict[bytes, list[tuple[int, bytes]]] = {}
    for marker, body in _jpeg_segments(data):
        if marker != 0xE1:
            continue
        if body.startswith(_XMP):
            yield body[len(_XMP) :]
        elif body.startswith(_XMP_MORE) and len(body) >= len(_XMP_MORE) + 40:
            digest, _, offset = struct.unpack_from(">32sII", body, len(_XMP_MORE))
            pieces.setdefault(digest, []).append((offset, body[len(_XMP_MORE) + 40 :]))
    yield from (b"".join(piece for _, piece in sorted(found)) for found in pieces.values())


def _jpeg_jumbf(data: bytes) -> Iterator[bytes]:
    """JUMBF boxes, each in one or more APP11 segments that repeat its header (ISO 19566-5, annex D)."""
    pieces: dict[int, list[tuple[int, bytes]]] = {}
    for marker, body in _jpeg_segments(data):
        if marker == 0xEB and body.startswith(b"JP") and len(body) >= 16:
            box, number = struct.unpack_from(">HI", body, 2)
            pieces.setdefault(box, []).append((number, body[8:]))
    for found in pieces.values():
        (_, first), *others = sorted(found)
        head = 16 if first[:4] == b"\0\0\0\1" else 8
        if first[4:8] != b"jumb":  # JPEG XT keeps other boxes there
            continue
        yield first + b"".join(piece[head:] for _, piece in others)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position + 8 : position + 8 + size]
        position += 12 + size


def _png_text(kind: bytes, body: bytes) -> bytes | None:
    """The XMP in a text chunk, None if it holds something else. As a "raw profile" it is in hexadecimal digits."""
    name, _, rest = body[: 1 << 10].partition(b"\0")
    if name not in (b"XML:com.adobe.xmp", b"Raw profile type xmp"):
        return None
    rest = body[len(name) + 1 :]
    packed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed:
        stream = zlib.decompressobj()
        try:
            rest = stream.decompress(rest, PACKET_BYTES + 1)
        except zlib.error:
            raise UnreadableMetadata("damaged XMP") from None
        if not stream.eof:
            raise UnreadableMetadata("damaged or oversized XMP")
    if name == b"Raw profile type xmp":
        try:
            return bytes.fromhex(b"".join(rest.split()[2:]).decode("ascii"))  # after its name and length
        except ValueError:
            raise UnreadableMetadata("damaged XMP") from None
    return rest


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, position)
        yield kind, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _tiff_values(data: bytes, wanted: int) -> Iterator[bytes]:
    """The value of a tag of bytes in the first directory of a TIFF or BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    entry, count, word = (f"{order}HHQ", f"{order}Q", 8) if big else (f"{order}HHI", f"{order}H", 4)
    try:
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (entries,) = struct.unpack_from(count, data, start)
        place = start + struct.calcsize(count)
        for position in range(place, min(place + entries * (4 + 2 * word), len(data)), 4 + 2 * word):
            tag, _, length = struct.unpack_from(entry, data, position)
            if tag == wanted:
                at = position + 4 + word
                if length > word:
                    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, at)
                yield data[at : at + length]
                return
    except (struct.error, OverflowError):
        return  # a directory that is cut short or lies beyond 2**63: Pillow says what is wrong with it


def _gif_blocks(data: bytes, position: int) -> bytes:
    found = bytearray()
    while position < len(data) and data[position]:
        found += data[position + 1 : position + 1 + data[position]]
        position += 1 + data[position]
    return bytes(found)
