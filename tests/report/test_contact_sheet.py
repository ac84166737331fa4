from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from janus.report.contact_sheet import BORDER, FRAMES, GAP, LABEL_HEIGHT, contact_sheet

GREYS = [np.full((8, 8, 3), 10 * index, np.uint8) for index in range(1, 4)]


def test_pictures_stand_row_by_row_at_their_own_size() -> None:
    sheet = np.asarray(contact_sheet(GREYS, columns=2))
    assert sheet.shape == (2 * (8 + GAP) + GAP, 2 * (8 + GAP) + GAP, 3)
    expected = np.full_like(sheet, 255)
    for index, picture in enumerate(GREYS):
        top, left = GAP + index // 2 * (8 + GAP), GAP + index % 2 * (8 + GAP)
        expected[top : top + 8, left : left + 8] = picture
    assert np.array_equal(sheet, expected)


def test_frames_tell_the_verdicts() -> None:
    sheet = np.asarray(contact_sheet(GREYS, verdicts=[True, False, None]))
    assert sheet.shape == (8 + 2 * BORDER + 2 * GAP, 3 * (8 + 2 * BORDER + GAP) + GAP, 3)
    for index, verdict in enumerate([True, False, None]):
        left = GAP + index * (8 + 2 * BORDER + GAP)
        framed = sheet[GAP:-GAP, left : left + 8 + 2 * BORDER]
        assert np.array_equal(framed[BORDER:-BORDER, BORDER:-BORDER], GREYS[index])
        for edge in (framed[:BORDER], framed[-BORDER:], framed[:, :BORDER], framed[:, -BORDER:]):
            assert (edge == FRAMES[verdict]).all()


def test_only_larger_pictures_are_shrunk_and_all_are_centred() -> None:
    wide = Image.new("RGB", (200, 100), "blue")
    sheet = np.asarray(contact_sheet([wide, GREYS[0]], side=50))
    assert sheet.shape == (50 + 2 * GAP, 2 * (50 + GAP) + GAP, 3)
    blue = (sheet == (0, 0, 255)).all(axis=-1)
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert (rows[0] - GAP, len(rows), columns[0], len(columns)) == (12, 25, GAP, 50)
    grey = (sheet == 10).all(axis=-1)
    assert (np.flatnonzero(grey.any(axis=1)) - GAP).tolist() == list(range(21, 29))
    assert wide.size == (200, 100), "the caller's picture stays as it is"


def test_labels_stand_below_and_stay_within_their_cell() -> None:
    pictures = [np.full((60, 60, 3), 200, np.uint8)] * 2
    long = "a very long prompt that cannot fit below a picture of this size"
    sheet = np.asarray(contact_sheet(pictures, labels=["red\nfish", long]))
    assert sheet.shape[0] == 60 + LABEL_HEIGHT + 2 * GAP
    strip = sheet[GAP + 60 :] < 128
    assert strip[:, GAP : GAP + 60].any()
    assert strip[:, 2 * GAP + 60 : 2 * GAP + 120].any()
    assert not strip[:, GAP + 60 : 2 * GAP + 60].any(), "no label runs into the next cell"
    assert not strip[:, 2 * GAP + 120 :].any()
    assert np.array_equal(sheet[GAP : GAP + 60, GAP : GAP + 60], pictures[0])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"pictures": []}, "at least one picture"),
        ({"pictures": GREYS, "verdicts": [True]}, "3 pictures and 1 verdicts: expected one for each"),
        ({"pictures": GREYS, "labels": []}, "3 pictures and 0 labels"),
    ],
)
def test_each_picture_needs_its_verdict_and_label(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        contact_sheet(**wrong)
