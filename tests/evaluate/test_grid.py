from __future__ import annotations

import numpy as np
import pytest

from janus.evaluate.grid import picture_grid


def test_pictures_stand_in_rows_in_frames_of_their_verdict() -> None:
    images = [np.full((8, 8, 3), 10 * index, np.uint8) for index in range(3)]
    sheet = np.asarray(picture_grid(images, [True, False, None], columns=2, side=16))
    cell = 16 + 2 * 3 + 6  # side, two borders, one gap
    assert sheet.shape == (2 * cell + 6, 2 * cell + 6, 3)
    for index, frame in enumerate([(46, 160, 67), (207, 34, 46), (140, 149, 159)]):
        top, left = 6 + index // 2 * cell, 6 + index % 2 * cell
        assert tuple(sheet[top, left]) == frame
        assert tuple(sheet[top + 10, left + 10]) == (10 * index,) * 3
    assert tuple(sheet[6 + cell + 5, 6 + cell + 5]) == (255, 255, 255)  # no fourth picture


def test_each_picture_needs_a_verdict() -> None:
    with pytest.raises(ValueError, match="1 images and 0 verdicts"):
        picture_grid([np.zeros((8, 8, 3), np.uint8)], [])
