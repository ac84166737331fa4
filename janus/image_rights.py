"""What a picture says about itself being used for training, in its XMP and its C2PA manifest.

- `plus:DataMining` (PLUS License Data Format, IPTC Photo Metadata Standard 2023.1): all values but DMI-ALLOWED and
  DMI-UNSPECIFIED reserve it, also those that refer to terms in words.
- `tdm:reservation` (TDM Reservation Protocol): all values but 0 and false reserve it.
- the assertion `c2pa.training-mining` or `cawg.training-mining`: it reserves the picture unless every use in it is
  "allowed". Signatures are not verified, as a "no" needs none. The manifests of pictures that this one was made from
  count too.

Where something of this is there and cannot be read, the picture is reserved. The IPTC-IIM block has no such field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat

from janus.image_headers import signature
from janus.image_metadata import PACKET_BYTES, UnreadableMetadata, boxes, c2pa_stores, xmp_packets

PLUS = "ns.useplus.org/ldf/xmp"
TDM = "www.w3.org/ns/tdmrep"
"""Parts of the namespaces that all spellings of them have."""
_FREE = {"DataMining": frozenset({"DMI-ALLOWED", "DMI-UNSPECIFIED"}), "reservation": frozenset({"0", "False", "false"})}
"""Properties that reserve, with the values that do not."""
_NAMES = re.compile("DataMining|reservation")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff￾￿]")
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_RDF_VALUES = frozenset({f"{_RDF}resource", f"{_RDF}about", f"{_RDF}value"})
"""Attributes that hold the value of a property."""

_ASSERTION = b"training-mining"
_COMPRESSED = (b"brob", b"c2cm")
"""Types of boxes and manifests that are compressed with Brotli."""
_USE = b"\x63use"
_ALLOWED = _USE + b"\x67allowed"
"""CBOR of the key "use", and of it with the value "allowed"."""
_DEPTH = 8
"""Levels of boxes in a C2PA store that are looked into: an assertion is on the fourth."""


def picture_reserved(data: bytes) -> str | None:
    """What in an image file reserves it from training, None if nothing does. Holds for any bytes."""
    format = signature(data)
    if format is None:
        return None
    try:
        for packet in xmp_packets(data, format):
            if (what := xmp_reserved(packet)) is not None:
                return what
        for store in c2pa_stores(data, format):
            if (what := _c2pa_reserved(store)) is not None:
                return what
    except UnreadableMetadata as error:
        return f"metadata of the picture cannot be read: {error}"
    return None


def xmp_reserved(packet: bytes) -> str | None:
    """What in an XMP packet reserves the picture. Raises UnreadableMetadata.

    A packet that does not even contain the name of one of the properties cannot reserve anything, whatever else is
    wrong with it, and is not parsed.
    """
    # Without its zero bytes, UTF-16 and UTF-32 read as what they hold of ASCII, which the properties are.
    text = packet.replace(b"\0", b"").decode("utf-8", "replace")
    if not _NAMES.search(text):
        return None
    if len(packet) > PACKET_BYTES:
        raise UnreadableMetadata(f"XMP of {len(packet)} bytes")
    for name, value in _properties(text[text.find("<") : text.rfind(">") + 1]):
        words = {word.rpartition("/")[2] for word in value.split()}
        if not words <= _FREE[name]:
            return _shown(f"XMP {'plus' if name == 'DataMining' else 'tdm'}:{name}: {' '.join(sorted(words))}")
    return None


def _properties(text: str) -> Iterator[tuple[str, str]]:
    """(name, value) of the properties we know, written as attributes or elements. Raises UnreadableMetadata."""
    found: list[tuple[str, str]] = []
    inside: list[str] = []
    """Names of the open elements, from the property that is being read on."""
    value: list[str] = []

    def known(name: str) -> str | None:
        namespace, _, local = name.rpartition(" ")
        if local == "DataMining" and PLUS in namespace:
            return local
        if local in ("reservation", "tdm-reservation") and TDM in namespace:
            return "reservation"
        return None

    def start(name: str, attributes: dict[str, str]) -> None:
        for key, content in attributes.items():
            if (attribute := known(key)) is not None:
                found.append((attribute, content))
        if inside or known(name):
            inside.append(name)
            value.extend(content for key, content in attributes.items() if key in _RDF_VALUES)

    def end(name: str) -> None:
        if inside:
            outer = known(inside[0])
            inside.pop()
            if not inside and outer is not None:
                found.append((outer, " ".join(value)))
                value.clear()

    def characters(content: str) -> None:
        if inside:
            value.append(content)

    def refused(*_: object) -> None:
        raise UnreadableMetadata("XMP with a document type")

    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    # No entity is ever expanded and nothing outside is read: XMP has neither.
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refused
    try:
        parser.Parse(_NOT_XML.sub("", text).encode(), True)
    except expat.ExpatError as error:
        raise UnreadableMetadata(f"XMP that is no XML ({expat.ErrorString(error.code)})") from None
    yield from found


def _shown(text: str) -> str:
    """The start of a text from the picture, printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:120])


def _c2pa_reserved(store: bytes) -> str | None:
    """What in a C2PA manifest store reserves the picture. Raises UnreadableMetadata."""
    if store[4:8] != b"jumb" or len(store) < int.from_bytes(store[:4], "big"):
        raise UnreadableMetadata("C2PA manifest")
    if not any(name in store for name in (_ASSERTION, *_COMPRESSED)):
        return None
    found = False
    for label, content in _assertions(store, _DEPTH):
        if label.partition(".")[2].encode().startswith(_ASSERTION):
            found = True
            uses = content.count(_USE)
            if uses == 0 or uses != content.count(_ALLOWED):
                return _shown(f"C2PA {label}")
    if not found and _ASSERTION in store:
        raise UnreadableMetadata("C2PA training-mining assertion")
    return None


def _assertions(data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """(label, content) of the JUMBF superboxes in `data` whose content is CBOR, at any level up to `depth`."""
    for kind, body in boxes(data):
        if kind == b"jumb" and depth:
            inner = list(boxes(body))
            if inner and inner[0][0] == b"jumd":
                if inner[0][1].startswith(_COMPRESSED):
                    raise UnreadableMetadata("compressed C2PA manifest")
                label = inner[0][1][17:].partition(b"\0")[0].decode("ascii", "replace")
                yield from ((label, content) for name, content in inner[1:] if name == b"cbor")
            yield from _assertions(body, depth - 1)
        elif kind in _COMPRESSED:
            raise UnreadableMetadata("compressed C2PA manifest")
