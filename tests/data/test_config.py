"""Settings no run can have are refused in one line."""

from __future__ import annotations

import pytest

from janus.data.config import DataConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ratio", (0, 0, 0)),
        ("ratio", (1, -1, 1)),
        ("sequences", 0),
        ("seq_len", 0),
        ("micro_batch", 0),
        ("decode_threads", 0),
        ("prefetch", 0),
        ("first_share", 1.5),
        ("caption_drop", -0.1),
        ("short_caption", 2.0),
    ],
)
def test_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^data\.{field} .*") as error:
        DataConfig(**{field: value})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
