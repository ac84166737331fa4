"""What a captioner said: which answers are captions, and how they are kept until their shard is done."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipelines.captioners import Answer
from pipelines.recaption.answers import caption_in, is_loop
from pipelines.recaption.journal import Journal
from schemas.reasons import Drop


def test_the_journal_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "b.jsonl")
    assert journal.read() == {}
    journal.add(b"1" * 16, Answer("one\ntwo", True))
    with (tmp_path / "a" / "b.jsonl").open("ab") as file:
        file.write(b'{"uid": "3131')
    journal.add(b"2" * 16, Answer("\u2028three"))
    assert journal.read() == {b"1" * 16: Answer("one\ntwo", True), b"2" * 16: Answer("\u2028three")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A red bus.", None),
        ("Sorry the cat, a small grey animal, looks at the camera.", None),
        ("I am a sign, says the sign. I cannot tell you more, it goes on.", None),
        ("Rows and rows and rows of red, red, red tulips.", None),
        ("I’m sorry, I cannot describe this image.", Drop.RECAPTION_REFUSED),
        ("I cannot assist with that request.", Drop.RECAPTION_REFUSED),
        ("As an AI language model, I do not see.", Drop.RECAPTION_REFUSED),
        ("Unfortunately, I can't see the picture.", Drop.RECAPTION_REFUSED),
        ("很抱歉，我无法描述这张图片。", Drop.RECAPTION_REFUSED),
        ("一只猫坐在红色的沙发上。", None),
        ("the the the the the the the the the the the the the", Drop.RECAPTION_REPEATED),
        ("猫狗" * 12, Drop.RECAPTION_REPEATED),
        ("\ud800 a lone half", None),
        ("   ", Drop.RECAPTION_EMPTY),
        (None, Drop.RECAPTION_FAILED),
    ],
)
def test_what_is_a_caption(text: str | None, reason: Drop | None) -> None:
    caption, found = caption_in(Answer(text))
    assert found == reason
    assert (caption is None) == (reason is not None)
    if caption is not None:
        caption.encode()


def test_a_loop_is_found_as_by_looking_at_every_part() -> None:
    def slow(words: list[str]) -> bool:
        return any(
            all(words[at + step] == words[at + step + size] for step in range(max(3 * size, 12 - size)))
            for size in range(1, 21)
            for at in range(len(words) - size - max(3 * size, 12 - size) + 1)
        )

    hits = 0
    for number in range(600):
        bits = hashlib.shake_256(str(number).encode()).digest(200)
        size, times = 1 + bits[0] % 22, bits[1] % 7
        part = [str(bits[2 + at] % 5) for at in range(size)]
        words = [str(bits[40 + at] % 5) for at in range(bits[3] % 20)] + part * times + part[: bits[4] % size]
        assert is_loop(words) == slow(words), words
        hits += is_loop(words)
    assert 100 < hits < 500
