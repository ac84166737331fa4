"""What pictures say against being used for training, and that no bytes make the reader fail or slow."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from janus.image_rights import picture_reserved
from janus.images import load_rgb
from tests import rights
from tests.pictures import PICTURES
from tests.rights import AWKWARD, FREE, RESERVED, VOCABULARY, jpeg_xmp, mining, packet, png, png_xmp, store

CAP = 1_000_000


@pytest.mark.parametrize("name", RESERVED)
def test_a_picture_can_reserve_itself(name: str) -> None:
    data = RESERVED[name]()
    load_rgb(data, max_pixels=CAP)  # a picture like any other
    what = picture_reserved(data)
    assert what is not None
    assert what.isprintable()
    assert len(what) <= 120


@pytest.mark.parametrize("name", FREE)
def test_a_picture_that_allows_or_says_nothing_is_taken(name: str) -> None:
    data = FREE[name]()
    load_rgb(data, max_pixels=CAP)
    assert picture_reserved(data) is None


@pytest.mark.parametrize("name", PICTURES)
def test_ordinary_pictures_are_taken(name: str) -> None:
    assert picture_reserved(PICTURES[name]) is None


def test_real_photos_are_taken(shared_data: Path) -> None:
    files = [path for path in (shared_data / "photos").rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    assert len(files) > 100
    assert [path.name for path in files if picture_reserved(path.read_bytes()) is not None] == []


def test_bad_images_say_nothing(shared_data: Path) -> None:
    """Real files with real metadata, broken in all ways: none says anything about training."""
    files = [path for path in (shared_data / "bad_images").rglob("*") if path.is_file()]
    assert [path.name for path in files if picture_reserved(path.read_bytes()) is not None] == []


def test_the_term_is_named() -> None:
    assert picture_reserved(jpeg_xmp(mining("DMI-PROHIBITED"))) == "XMP plus:DataMining: DMI-PROHIBITED"
    hostile = packet(f'plus:DataMining="{VOCABULARY}\u202e{"x" * 500}"')
    what = picture_reserved(jpeg_xmp(hostile))
    assert what is not None
    assert what.isprintable()
    assert len(what) <= 120


def test_entities_are_not_looked_at(tmp_path: Path) -> None:
    """Not only refused: a packet that is allowed but for an entity is refused too, and no file is opened for one."""
    (tmp_path / "secret").write_text("DMI-ALLOWED")
    doctype = f'<!DOCTYPE x [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]>'
    outside = packet(inner="<plus:DataMining>&a;</plus:DataMining>", before=doctype)
    assert picture_reserved(jpeg_xmp(outside)) == "metadata of the picture cannot be read: XMP with a document type"


@pytest.mark.parametrize("name", [*RESERVED, *FREE, *AWKWARD])
def test_any_cut_or_change_of_a_picture_is_read_or_refused(name: str) -> None:
    data = ({**RESERVED, **FREE, **AWKWARD})[name]()
    dice = random.Random(name)
    for _ in range(30):
        picture_reserved(data[: dice.randrange(len(data))])
        changed = bytearray(data)
        for _ in range(10):
            changed[dice.randrange(len(data))] = dice.randrange(256)
        picture_reserved(bytes(changed))


@pytest.mark.parametrize(
    "data",
    [
        png(rights.chunk(b"caBX", b"\0\0\0\x08free" * 2_000_000)),
        png(rights.chunk(b"caBX", (b"\0\0\0\x08jumb" * 1_000_000) + b"training-mining")),
        png(*[rights.chunk(b"tEXt", b"")] * 500_000),
        png_xmp(packet("a" * 2_000_000 + ' tdm:reservation="0"')),
        png_xmp(packet(inner="<a>" * 200_000 + "reservation" + "</a>" * 200_000), packed=True),
        png_xmp(packet(inner=f"<plus:DataMining>{'<a/>' * 500_000}</plus:DataMining>"), packed=True),
        PICTURES["photo.jpg"][:2] + b"\xff\xe1\0\x02" * 500_000,
        b"GIF89a" + b"!\xff\x0bXMP DataXMP" * 500_000,
        PICTURES["photo.avif"] + b"<x:xmpmeta" * 500_000,
        b"II*\0\x08\0\0\0\xff\xff" + b"\xbc\x02\x01\0\xff\xff\xff\x7f\0\0\0\0" * 65_535,
    ],
    ids=range(10),
)
def test_hostile_metadata_takes_no_time(data: bytes) -> None:
    start = time.process_time()
    picture_reserved(data)
    assert time.process_time() - start < 10


@pytest.mark.parametrize("start", [2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_directory_beyond_any_file_says_nothing(start: int) -> None:
    """BigTIFF has offsets of 64 bits, and Python's buffers end at 2**63 - 1."""
    picture = b"II+\0\x08\0\0\0" + start.to_bytes(8, "little") + bytes(64)
    assert picture_reserved(picture) is None


def test_all_manifests_count() -> None:
    """An assertion in the manifest of an ingredient, two levels further in, is a no as well."""
    inner = rights.superbox("urn:uuid:2", rights.superbox("c2pa.assertions", store(rights.DENIED)))
    data = rights.jpeg_c2pa(rights.superbox("c2pa", rights.superbox("urn:uuid:1", type=b"c2ma"), inner))
    assert picture_reserved(data) == "C2PA c2pa.training-mining"
