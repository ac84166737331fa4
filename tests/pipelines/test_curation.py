"""Signals and filters of curation, against values computed by hand or by a plain loop."""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines.build import build
from pipelines.filters import load_filter
from pipelines.row import Row
from pipelines.signals import field_type, load_signal
from schemas.layers import UID
from schemas.spec import Operations
from tests.pipelines.world import folder_source, image_folder, picture, spec


def row(image: Image.Image | None = None, text: str = "A red fish.") -> Row:
    stored = []
    if image is not None:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        stored.append({"bytes": buffer.getvalue(), "sha256": hashlib.sha256(buffer.getvalue()).digest()})
    return Row("understanding", bytes(16), "ok", [{"role": "caption", "text": text}], stored, max_pixels=10**7)


def measured(name: str, of: Row) -> Any:
    return load_signal(name).measure(of)


def dropped(name: str, settings: dict[str, Any], **columns: list[Any]) -> list[bool]:
    """What a filter drops of rows with these signals; "__" stands for the dot of a field."""
    fields = {column.replace("__", "."): values for column, values in columns.items()}
    table = pa.table({field: pa.array(values, field_type(field)) for field, values in fields.items()})
    return [bool(one) for one in load_filter(name, settings).drops(table)]


def grey(pixels: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256))
    values = [
        int(pixels[y - 1, x]) + int(pixels[y + 1, x]) + int(pixels[y, x - 1]) + int(pixels[y, x + 1])
        - 4 * int(pixels[y, x])
        for y in range(1, 255) for x in range(1, 255)
    ]  # fmt: skip
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    assert measured("sharpness", row(grey(pixels)))["variance"] == pytest.approx(variance, abs=0.006)


def test_sharpness_of_known_pictures() -> None:
    y, x = np.mgrid[:256, :256]
    # On a chessboard of single pixels each one has four neighbours of the other colour: +-4 * 200, mean 0.
    assert measured("sharpness", row(grey((x + y) % 2 * 200)))["variance"] == 800**2
    assert measured("sharpness", row(grey(x)))["variance"] == 0, "a ramp has no second derivative"
    assert measured("sharpness", row(grey(np.full((1, 3000), 7))))["variance"] == 0
    sharp = picture(1, 512, 512)
    soft = sharp.resize((64, 64)).resize((512, 512))
    assert measured("sharpness", row(soft))["variance"] < measured("sharpness", row(sharp))["variance"]


def test_entropy_is_that_of_the_histogram() -> None:
    assert measured("entropy", row(grey(np.full((40, 60), 9)))) == {"bits": 0}
    _, x = np.mgrid[:256, :256]
    assert measured("entropy", row(grey(x))) == {"bits": 8}
    assert measured("entropy", row(grey(x // 64 * 50))) == {"bits": 2}
    pixels = np.minimum(np.random.default_rng(0).poisson(20, (300, 300)), 255)
    shares = [count / pixels.size for count in Counter(pixels.ravel().tolist()).values()]
    expected = -sum(share * math.log2(share) for share in shares)
    assert measured("entropy", row(grey(pixels)))["bits"] == pytest.approx(expected, abs=6e-5)


def test_pictures_are_dropped_by_sharpness_and_entropy() -> None:
    assert dropped("sharpness", {"min": 10}, sharpness__variance=[9.99, 10, None]) == [True, False, False]
    bits = [0.5, 1, 4, 7.5, 7.6, None]
    assert dropped("entropy", {"min": 1}, entropy__bits=bits) == [True, False, False, False, False, False]
    assert dropped("entropy", {"max": 7.5}, entropy__bits=bits) == [False, False, False, False, True, False]
    assert dropped("entropy", {"min": 1, "max": 7.5}, entropy__bits=bits) == [True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("sharpness", {}, "^filters.sharpness.min: Field required$"),
        ("sharpness", {"min": -1}, "^filters.sharpness.min: Input should be greater than or equal to 0$"),
        ("entropy", {}, "^filters.entropy: set min, max or both$"),
        (
            "entropy",
            {"min": 3, "max": 2},
            "^filters.entropy: min 3.0 is more than max 2.0: every row would be dropped$",
        ),
        ("pii", {}, "^filters.pii: set at least one of max_emails, max_ips, max_cards, max_phones$"),
        ("sample", {"share": 0.0}, "^filters.sample.share: Input should be greater than 0$"),
        ("sample", {"share": 1.5}, "^filters.sample.share: Input should be less than or equal to 1$"),
    ],
)
def test_options_that_make_no_sense_are_one_line(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        load_filter(name, settings)
    assert "\n" not in str(error.value)


def sampled(uids: list[bytes], **settings: Any) -> set[bytes]:
    table = pa.table({"uid": pa.array(uids, UID)})
    drops = load_filter("sample", settings).drops(table)
    return {uid for uid, drop in zip(uids, drops, strict=True) if not drop}


def test_a_sample_is_the_share_asked_for_and_lies_within_larger_ones() -> None:
    uids = [hashlib.md5(str(index).encode()).digest() for index in range(4000)]
    for seed in (0, 7):
        expected = {
            uid for uid in uids
            if int(hashlib.sha256(str(seed).encode() + b":" + uid).hexdigest(), 16) / 2**256 < 0.3
        }  # fmt: skip
        assert sampled(uids, share=0.3, seed=seed) == expected
        assert abs(len(expected) - 1200) < 4 * math.sqrt(4000 * 0.3 * 0.7)
        assert sampled(uids, share=0.1, seed=seed) < expected < sampled(uids, share=0.31, seed=seed)
    assert sampled(uids, share=0.3) == sampled(uids, share=0.3, seed=0) != sampled(uids, share=0.3, seed=7)
    assert sampled(uids, share=1.0) == {*uids}
    assert sampled([], share=0.5) == set()


def test_a_build_counts_what_they_drop(model: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", list(range(12)))
    Image.new("RGB", (96, 96), "red").save(photos / "0.jpg")
    chosen = {"entropy": {"min": 0.5}, "sharpness": {"min": 0.0}, "sample": {"share": 0.5}}
    funnel = build(spec(model, [folder_source(photos)], filters=chosen), tmp_path / "c", Operations()).funnel["photos"]
    assert funnel["entropy"] == 1
    assert funnel.get("sharpness", 0) == 0
    assert 0 < funnel["sample"] < 11


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red fish, 12:30:45, version 1.2.3, std::string, a::b, 3.14159265358979.", ()),
        ("Write to ann@example.org, or b.c+d@mail.example.co.uk. Not to @ann, a@b, ann@.org", ("emails",) * 2),
        ("Hosts 192.0.2.1, 198.51.100.255 and 2001:db8::1; not 256.1.1.1, 1.2.3.4.5, 01.2.3.4", ("ips",) * 3),
        # The examples of card companies, then two with a digit changed, and an ISBN.
        ("4111 1111 1111 1111, 5500-0000-0000-0004 and 378282246310005", ("cards",) * 3),
        ("4111 1111 1111 1112, 5500-0000-0000-0005, 978-3-16-148410-0", ()),
        ("41111111111111110000000000", ()),
        ("Call (212) 555-0123, 212.555.0199, 1-212-555-0100 or +44 20 7946 0958", ("phones",) * 4),
        ("Call +49 (30) 1234567 or +33612345678.", ("phones",) * 2),
        ("In 2012 555 people; 20-12-2012; 123-45-6789; 1 000 000 000; +5; no. 2125550123", ()),
        ("ann@example.org at 192.0.2.1, +1 212 555 0123", ("emails", "ips", "phones")),
    ],
)
def test_personal_data_is_counted_by_kind(text: str, expected: tuple[str, ...]) -> None:
    counts = {"emails": 0, "ips": 0, "cards": 0, "phones": 0} | Counter(expected)
    assert measured("pii", row(text=text)) == counts


def test_every_changed_digit_of_a_card_number_is_noticed() -> None:
    number = "4111111111111111"
    for place in range(1, 16):
        changed = number[:place] + "2" + number[place + 1 :]
        assert measured("pii", row(text=changed))["cards"] == 0


@pytest.mark.parametrize("piece", ["a", "1", "1 ", "1.", "a.", "a@", "a@b.", ":", "+1", "+1(", "(1)", "4-"])
def test_no_text_makes_counting_slow(piece: str) -> None:
    # Were time not linear, a megabyte would take hours, and the suite with it.
    assert sum(measured("pii", row(text=piece * (1_000_000 // len(piece)))).values()) == 0


def test_texts_are_dropped_by_what_they_hold() -> None:
    columns: dict[str, list[Any]] = {
        "pii__emails": [0, 2, 3, 0, None], "pii__ips": [9, 0, 0, 0, None], "pii__cards": [0, 0, 0, 1, None],
        "pii__phones": [0, 0, 0, 0, None],
    }  # fmt: skip
    assert dropped("pii", {"max_emails": 2, "max_cards": 0}, **columns) == [False, False, True, True, False]
    assert dropped("pii", {"max_ips": 0}, **columns) == [True, False, False, False, False]
