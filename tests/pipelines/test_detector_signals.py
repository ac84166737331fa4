"""Signals whose detectors come with packages of their own (extras nudenet and ocr): real ones, and none."""

from __future__ import annotations

import importlib.metadata
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from pipelines.filters import load_filter
from pipelines.models.nude import CLASSES
from pipelines.row import Row
from pipelines.signals import load_signal
from tests.pipelines.test_conditions import dropped, table


def row(picture: bytes | Image.Image) -> Row:
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        picture = buffer.getvalue()
    return Row("generation", bytes(16), "ok", [], [{"bytes": picture}], max_pixels=10**7)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("nudenet", "nudenet", "nudenet"), ("faces", "nudenet", "nudenet"), ("text_area", "rapidocr", "ocr")],
)
def test_without_its_package_a_signal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("pipelines.models.fingerprints.version", version)
    says = rf"^signals.{name}: needs the package {package}: pip install 'janus-forge\[{extra}\]'$"
    with pytest.raises(ValueError, match=says):
        load_signal(name).fingerprint()
    assert package not in sys.modules


def test_the_filters_of_detectors() -> None:
    assert dropped("text_area", {"max": 0.3}, table(text_area__share=[0.3, 0.31, None])) == [False, True, False]
    signals = table(faces__count=[0, 3, 1, None], faces__largest=[0.0, 0.1, 0.5, None])
    assert dropped("faces", {"max_count": 2}, signals) == [False, True, False, False]
    assert dropped("faces", {"max_largest": 0.4}, signals) == [False, False, True, False]
    reads = load_filter("nudenet", {"max": 1.0}).reads
    fields: dict[str, list[Any]] = {name.replace(".", "__"): [0.0, 0.0, None] for name in reads}
    fields["nudenet__score__BUTTOCKS_EXPOSED"] = [0.5, 0.51, None]
    assert dropped("nudenet", {"max": 0.5}, table(**fields)) == [False, True, False]
    with pytest.raises(ValueError, match=r"^filters.faces: set max_count, max_largest or both$"):
        load_filter("faces", {})


@pytest.mark.integration
def test_nudenet_finds_what_it_finds_by_itself(shared_data: Path) -> None:
    nudenet = pytest.importorskip("nudenet")
    assert {*sys.modules["nudenet.nudenet"].__dict__["__labels"]} == {*CLASSES}
    detector = nudenet.NudeDetector()
    faces = 0
    for path in (
        sorted((shared_data / "bad_images" / "pillow").glob("hopper*.jp*g"))
        + sorted((shared_data / "photos").rglob("*.jpg"))[:12]
    ):
        with Image.open(path) as picture:
            if picture.mode != "RGB" or picture.format != "JPEG" or min(picture.size) >= 1280:
                continue
            width, height = picture.size
        expected: dict[str, float] = dict.fromkeys(CLASSES, 0.0)
        boxes: list[Any] = detector.detect(str(path))
        for box in boxes:
            expected[box["class"]] = max(expected[box["class"]], box["score"])
        one = row(path.read_bytes())
        assert load_signal("nudenet").measure(one)["score"] == pytest.approx(expected, abs=2e-2)
        found = [box for box in boxes if box["class"].startswith("FACE_")]
        faces += len(found)
        largest = max((box["box"][2] * box["box"][3] for box in found), default=0) / (width * height)
        assert load_signal("faces").measure(one) == {"count": len(found), "largest": pytest.approx(largest, abs=2e-3)}


@pytest.mark.integration
def test_nudenet_finds_a_face_and_none_in_a_plain_picture(shared_data: Path) -> None:
    pytest.importorskip("nudenet")
    face = row((shared_data / "bad_images" / "pillow" / "hopper_gray.jpg").read_bytes())
    assert load_signal("faces").measure(face)["count"] == 1
    assert 0.05 < load_signal("faces").measure(face)["largest"] < 0.5
    assert load_signal("nudenet").measure(face)["score"]["FACE_FEMALE"] > 0.3
    plain = row(Image.new("RGB", (300, 200), "green"))
    assert load_signal("faces").measure(plain) == {"count": 0, "largest": 0.0}
    assert {*load_signal("nudenet").measure(plain)["score"].values()} == {0.0}


@pytest.mark.integration
@pytest.mark.parametrize("size", [(800, 400), (900, 100)])
def test_text_area_is_about_that_of_the_drawn_text(size: tuple[int, int]) -> None:
    pytest.importorskip("rapidocr")
    page = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=40)
    area = 0.0
    for y in (20, size[1] // 2 + 10)[: size[1] // 100]:
        draw.text((30, y), "HELLO WORLD TEXT", fill="black", font=font)
        left, top, right, bottom = draw.textbbox((30, y), "HELLO WORLD TEXT", font=font)
        area += (right - left) * (bottom - top) / (size[0] * size[1])
    found = load_signal("text_area").measure(row(page))
    assert found["lines"] == min(2, size[1] // 100)
    assert area <= found["share"] < 2.2 * area, "boxes stand off the letters by some pixels"
    assert load_signal("text_area").measure(row(Image.new("RGB", size, "white"))) == {"share": 0.0, "lines": 0}
