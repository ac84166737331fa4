"""Rows that go on without an image that could not be had (`missing_image = "drop_image"` of a source).

About one address in seven of an interleaved set is dead, and a page has several: without this, most pages would be lost
for one picture of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.steps.health import GATE_ROWS, Unhealthy
from schemas.reasons import Outcome
from schemas.sample import IMAGE_MARK


def raw_row(row: dict[str, Any], images: list[dict[str, Any]], *, drop_images: bool) -> dict[str, Any]:
    """The raw row of a row and of what came of its images.

    It fails with its first image that did. With `drop_images`, one whose messages have a mark for each image goes on
    without those that failed, as long as any text is left.
    """
    failed = [image for image in images if image["outcome"] != Outcome.OK]
    messages, lost = row["messages"], []
    outcome = failed[0]["outcome"] if failed else row["outcome"]
    if failed and drop_images:
        left = without_marks(messages, [image["outcome"] == Outcome.OK for image in images])
        if left is not None:
            messages, outcome = left, Outcome.OK.value
            lost = [{"url": image["url"], "outcome": image["outcome"]} for image in failed]
            images = [image for image in images if image["outcome"] == Outcome.OK]
    return {
        "uid": row["uid"],
        "key": row["key"],
        "messages": messages,
        "licence": row["licence"],
        "columns": row["columns"],
        "outcome": outcome,
        "images": images,
        "lost_images": lost,
    }


def without_marks(messages: Sequence[dict[str, str]], keep: Sequence[bool]) -> list[dict[str, str]] | None:
    """`messages` with only those image marks that are to be kept, told in their order.

    None if there are not as many marks as images, or no text is left.
    """
    if sum(message["text"].count(IMAGE_MARK) for message in messages) != len(keep):
        return None
    kept = iter(keep)
    result = []
    for message in messages:
        text, *parts = message["text"].split(IMAGE_MARK)
        for part in parts:
            if next(kept):
                text += IMAGE_MARK + part
            else:  # of the white space on both sides, one is enough
                text += part.lstrip() if not text or text[-1].isspace() else part
        result.append({**message, "text": text})
    return result if any(message["text"].replace(IMAGE_MARK, "").strip() for message in result) else None


def check_lost(lost: int, images: int, max_failed_share: float) -> None:
    """Raise Unhealthy if a shard lost so many of its images that the network is to be suspected."""
    if lost > max_failed_share * max(images, GATE_ROWS):
        raise Unhealthy(
            f"{lost} of {images} images were lost, more than max_failed_share = {max_failed_share:g}; not committed: "
            "find the cause, or raise max_failed_share in the spec"
        )
