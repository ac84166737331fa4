"""Identity of samples: what enters a uid and what does not."""

from __future__ import annotations

import hashlib

import pydantic
import pytest

from schemas.sample import ImageRef, Message, Sample

CAPTION = Message(role="caption", text="A red fish.")


def sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "task": "generation",
        "key": "a/1",
        "messages": (CAPTION,),
        "images": (ImageRef(url="http://h/a.jpg"),),
    }
    return Sample.model_validate({**values, **changes})


def test_uid_is_the_documented_digest() -> None:
    written_out = b'{"images":["url:http://h/a.jpg"],"messages":[["caption","A red fish."]],"task":"generation"}'
    assert sample().uid == hashlib.sha256(written_out).digest()[:16]


@pytest.mark.parametrize("change", [{"key": "other"}, {"licence": "CC0"}])
def test_provenance_is_not_identity(change: dict[str, object]) -> None:
    assert sample(**change).uid == sample().uid


@pytest.mark.parametrize(
    "change",
    [
        {"task": "understanding"},
        {"messages": (Message(role="caption", text="A red fish"),)},
        {"messages": (Message(role="document", text="A red fish."),)},
        {"images": (ImageRef(url="http://h/b.jpg"),)},
        {"images": ()},
    ],
)
def test_content_is_identity(change: dict[str, object]) -> None:
    assert sample(**change).uid != sample().uid


def test_a_local_image_is_named_by_its_bytes_not_its_place() -> None:
    first = sample(images=(ImageRef(path="x/1.png", sha256="ab" * 32),))
    moved = sample(images=(ImageRef(path="y/2.tar", offset=512, size=9, sha256="ab" * 32),))
    other = sample(images=(ImageRef(path="x/1.png", sha256="cd" * 32),))
    assert first.uid == moved.uid != other.uid


def test_an_image_is_in_exactly_one_place() -> None:
    for wrong in ({}, {"url": "http://h/a.jpg", "path": "a.jpg"}):
        with pytest.raises(pydantic.ValidationError, match="exactly one of url and path"):
            ImageRef.model_validate(wrong)
