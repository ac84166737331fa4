"""Pictures that say something about being used for training: XMP packets and C2PA manifests in every format."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image, TiffImagePlugin

from tests.pictures import PICTURES, encoded, quadrants

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
PLUS = 'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'
TDM = 'xmlns:tdm="http://www.w3.org/ns/tdmrep/"'
VOCABULARY = "http://ns.useplus.org/ldf/vocab/"


def packet(properties: str = "", inner: str = "", before: str = "") -> bytes:
    """An XMP packet with attributes and child elements of its one rdf:Description."""
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{before}<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF {RDF}><rdf:Description rdf:about="" {PLUS} {TDM} {properties}>{inner}</rdf:Description></rdf:RDF>'
        "</x:xmpmeta>" + " " * 200 + '<?xpacket end="w"?>'
    ).encode()


def mining(value: str) -> bytes:
    """A packet whose plus:DataMining is a term of the PLUS vocabulary."""
    return packet(f'plus:DataMining="{VOCABULARY}{value}"')


NO = mining("DMI-PROHIBITED-AIMLTRAINING")
LONG = packet(inner=hashlib.shake_256(b"x").hexdigest(20_000) + "<plus:DataMining>DMI-PROHIBITED</plus:DataMining>")
"""A packet that says so at its end."""


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, late: bool = False) -> bytes:
    """A PNG with chunks before or after its pixels."""
    data = encoded(quadrants(), "PNG")
    place = len(data) - 12 if late else 33
    return data[:place] + b"".join(chunks) + data[place:]


def png_xmp(xmp: bytes, *, packed: bool = False) -> bytes:
    body = b"XML:com.adobe.xmp\0" + (b"\1" if packed else b"\0") + b"\0\0\0" + (zlib.compress(xmp) if packed else xmp)
    return png(chunk(b"iTXt", body))


def png_profile(xmp: bytes) -> bytes:
    """XMP as ImageMagick writes it: hexadecimal digits in lines."""
    digits = xmp.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = f"\nxmp\n{len(xmp):8d}\n{lines}\n".encode()
    return png(chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(text)))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg(*segments: bytes) -> bytes:
    data = PICTURES["photo.jpg"]
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_xmp(xmp: bytes) -> bytes:
    return jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp))


def jpeg_extended(xmp: bytes) -> bytes:
    """A long packet in pieces, the last first."""
    size = len(xmp) // 3 + 1
    pieces = [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0"
            + b"0" * 32
            + struct.pack(">II", len(xmp), start)
            + xmp[start : start + size],
        )
        for start in range(0, len(xmp), size)
    ]
    return jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet()), *reversed(pieces))


def webp(kind: bytes, body: bytes) -> bytes:
    data = encoded(quadrants(), "WEBP", lossless=True)
    data += kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def gif(extension: bytes) -> bytes:
    data = encoded(quadrants().convert("P"), "GIF")
    return data[:-1] + extension + data[-1:]


def gif_xmp(xmp: bytes) -> bytes:
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    return gif(b"!\xff\x0bXMP DataXMP" + xmp + trailer)


def tiff(tag: int, body: bytes) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[tag] = body
    info.tagtype[tag] = 1
    file = BytesIO()
    quadrants().save(file, "TIFF", tiffinfo=info)
    return file.getvalue()


def avif_xmp(xmp: bytes) -> bytes:
    return encoded(quadrants(), "AVIF", xmp=xmp)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def superbox(label: str, *content: bytes, type: bytes = b"c2as") -> bytes:
    description = type + bytes(12) + b"\3" + label.encode() + b"\0"
    return box(b"jumb", box(b"jumd", description) + b"".join(content))


def text(value: str) -> bytes:
    """A CBOR text of less than 24 bytes, or of less than 256."""
    data = value.encode()
    return (bytes([0x60 + len(data)]) if len(data) < 24 else bytes([0x78, len(data)])) + data


def uses(**values: str) -> bytes:
    """CBOR of the entries of a training-mining assertion: {"entries": {"c2pa.NAME": {"use": VALUE}}}."""
    entries = b"".join(text(f"c2pa.{name}") + b"\xa1" + text("use") + text(value) for name, value in values.items())
    return b"\xa1" + text("entries") + bytes([0xA0 + len(values)]) + entries


def store(content: bytes | None, label: str = "c2pa.training-mining", *, padding: int = 0) -> bytes:
    """A C2PA manifest store of one manifest, with an assertion about training unless `content` is None."""
    others = [superbox("c2pa.actions.v2", box(b"cbor", b"\xa0" + bytes(padding)))]
    if content is not None:
        others.append(superbox(label, box(b"cbor", content)))
    assertions = superbox("c2pa.assertions", *others)
    return superbox("c2pa", superbox("urn:uuid:1", assertions, type=b"c2ma"), type=b"c2pa")


DENIED = uses(ai_generative_training="notAllowed", ai_training="notAllowed", data_mining="allowed")


def jpeg_c2pa(manifest: bytes) -> bytes:
    """In as many APP11 segments as it takes, each with the header of the box."""
    head, body, size = manifest[:8], manifest[8:], 60_000
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return jpeg(
        *(
            segment(0xEB, b"JP" + struct.pack(">HI", 1, number) + head + piece)
            for number, piece in enumerate(pieces, start=1)
        )
    )


def blocks(body: bytes) -> bytes:
    """GIF sub-blocks."""
    pieces = [body[start : start + 255] for start in range(0, len(body), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def avif_c2pa(manifest: bytes) -> bytes:
    uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    return PICTURES["photo.avif"] + box(b"uuid", uuid + bytes(4) + b"manifest\0" + bytes(8) + manifest)


RESERVED: dict[str, Callable[[], bytes]] = {
    "xmp-jpeg": lambda: jpeg_xmp(NO),
    "xmp-jpeg-extended": lambda: jpeg_extended(NO),
    "xmp-png": lambda: png_xmp(NO),
    "xmp-png-packed": lambda: png_xmp(NO, packed=True),
    "xmp-png-raw-profile": lambda: png_profile(NO),
    "xmp-webp": lambda: webp(b"XMP ", NO),
    "xmp-gif": lambda: gif_xmp(NO),
    "xmp-tiff": lambda: tiff(700, NO),
    "xmp-avif": lambda: avif_xmp(NO),
    "xmp-prohibited": lambda: jpeg_xmp(mining("DMI-PROHIBITED")),
    "xmp-generative": lambda: jpeg_xmp(mining("DMI-PROHIBITED-GENAIMLTRAINING")),
    "xmp-search-only": lambda: jpeg_xmp(mining("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING")),
    "xmp-see-constraint": lambda: jpeg_xmp(mining("DMI-PROHIBITED-SEECONSTRAINT")),
    "xmp-unknown-term": lambda: jpeg_xmp(mining("DMI-WHATEVER")),
    "xmp-element": lambda: jpeg_xmp(packet(inner=f"<plus:DataMining>{VOCABULARY}DMI-PROHIBITED</plus:DataMining>")),
    "xmp-resource": lambda: jpeg_xmp(packet(inner=f'<plus:DataMining rdf:resource="{VOCABULARY}DMI-PROHIBITED"/>')),
    "xmp-other-prefix": lambda: jpeg_xmp(NO.replace(b"plus:", b"p:").replace(b"xmlns:plus", b"xmlns:p")),
    "xmp-utf16": lambda: jpeg_xmp(NO.decode().encode("utf-16")),
    "xmp-tdm": lambda: jpeg_xmp(packet('tdm:reservation="1"')),
    "xmp-tdm-element": lambda: jpeg_xmp(packet(inner="<tdm:reservation>1</tdm:reservation>")),
    "xmp-no-xml": lambda: jpeg_xmp(NO.replace(b"</rdf:RDF>", b"")),
    "xmp-entity-bomb": lambda: jpeg_xmp(
        packet(
            inner="<plus:DataMining>&a;</plus:DataMining>",
            before='<!DOCTYPE x [<!ENTITY b "DMI-ALLOWED"><!ENTITY a "&b;&b;&b;&b;&b;&b;&b;&b;">]>',
        )
    ),
    "xmp-external-entity": lambda: jpeg_xmp(
        packet(
            inner="<plus:DataMining>&a;</plus:DataMining>",
            before='<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
        )
    ),
    "xmp-oversized": lambda: png_xmp(NO + b" " * (5 << 20), packed=True),
    "xmp-packed-cut": lambda: png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)[:5000])),
    "xmp-damaged": lambda: png_xmp(NO, packed=True).replace(b"\x78\x9c", b"\x78\x00", 1),
    "c2pa-jpeg": lambda: jpeg_c2pa(store(DENIED)),
    "c2pa-jpeg-long": lambda: jpeg_c2pa(store(DENIED, padding=150_000)),
    "c2pa-png": lambda: png(chunk(b"caBX", store(DENIED))),
    "c2pa-webp": lambda: webp(b"C2PA", store(DENIED)),
    "c2pa-gif": lambda: gif(b"!\xff\x0bC2PA_GIF\x01\0\0" + blocks(store(DENIED))),
    "c2pa-tiff": lambda: tiff(0xCD41, store(DENIED)),
    "c2pa-avif": lambda: avif_c2pa(store(DENIED)),
    "c2pa-cawg": lambda: jpeg_c2pa(store(DENIED.replace(b"c2pa.", b"cawg."), "cawg.training-mining")),
    "c2pa-constrained": lambda: jpeg_c2pa(store(uses(ai_training="constrained"))),
    "c2pa-unreadable": lambda: jpeg_c2pa(store(b"\xa0")),
    "c2pa-cut": lambda: png(chunk(b"caBX", store(DENIED)[:-150])),
    "c2pa-removed": lambda: jpeg_c2pa(superbox("c2pa", box(b"cbor", b"self#jumbf=c2pa.training-mining"))),
    "c2pa-other-box": lambda: png(chunk(b"caBX", box(b"free", b"nothing"))),
    "c2pa-nonsense": lambda: png(chunk(b"caBX", b"nonsense")),
    "c2pa-compressed": lambda: png(chunk(b"caBX", superbox("c2pa", box(b"brob", b"?"), type=b"c2pa"))),
}
"""Pictures that may not be taken."""

FREE: dict[str, Callable[[], bytes]] = {
    "xmp-empty": lambda: jpeg_xmp(packet()),
    "xmp-allowed": lambda: jpeg_xmp(mining("DMI-ALLOWED")),
    "xmp-jpeg-extended": lambda: jpeg_extended(mining("DMI-ALLOWED")),
    "xmp-unspecified": lambda: png_xmp(mining("DMI-UNSPECIFIED")),
    "xmp-tdm-0": lambda: jpeg_xmp(packet('tdm:reservation="0"')),
    "xmp-language": lambda: jpeg_xmp(
        packet(inner=f'<plus:DataMining xml:lang="en">{VOCABULARY}DMI-ALLOWED</plus:DataMining>')
    ),
    "xmp-other-namespace": lambda: jpeg_xmp(
        packet('xmlns:my="http://example.org/" my:DataMining="DMI-PROHIBITED" my:reservation="1"')
    ),
    "xmp-broken-without": lambda: jpeg_xmp(packet().replace(b"</rdf:RDF>", b"")),
    "c2pa-allowed": lambda: jpeg_c2pa(store(uses(ai_training="allowed", data_mining="allowed"))),
    "c2pa-without": lambda: jpeg_c2pa(store(None)),
    "jpeg-xt": lambda: jpeg_c2pa(box(b"RESI", b"training-mining")),
}
"""Pictures that may."""


AWKWARD: dict[str, Callable[[], bytes]] = {
    "png-ztxt-2mb": lambda: png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2 << 20)))),
    "png-itxt-late": lambda: png(chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(2 << 20))), late=True),
    "png-iccp-2mb": lambda: png(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(2 << 20)))),
    "png-many-texts": lambda: png(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000)))] * 100),
    "png-cut-end-chunk": lambda: png(chunk(b"tEXt", b"k\0" + b"v" * 100), late=True)[:-60],
    "png-without-end": lambda: encoded(quadrants(), "PNG")[:-12],
    "apng-without-fctl": lambda: apng(b"fcTL"),
    "apng-without-fdat": lambda: apng(b"fdAT"),
    "apng-first-fctl-lost": lambda: apng(b"fcTL", most=1),
}
"""Good first pictures, of which Pillow alone refuses some."""


def apng(without: bytes, most: int = 100) -> bytes:
    """Two frames, and `most` chunks of a kind left out."""
    other = quadrants().transpose(Image.Transpose.ROTATE_180)
    data = encoded(quadrants(), "PNG", save_all=True, append_images=[other])
    kept, position = [data[:8]], 8
    while position < len(data):
        size = 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == without and most > 0:
            most -= 1
        else:
            kept.append(data[position : position + size])
        position += size
    return b"".join(kept)
