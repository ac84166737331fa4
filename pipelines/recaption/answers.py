"""What makes an answer a caption: the others are failed rows, each with its reason."""

from __future__ import annotations

import re

from pipelines.captioners import Answer
from pipelines.decontamination.texts import words
from pipelines.reading.limits import MAX_TEXT
from pipelines.reading.records import clean_unicode
from schemas.reasons import Drop
from schemas.sample import IMAGE_MARK

MOST_PARTS = 20
"""Words of the longest part whose repetition is looked for."""
REPEATS, REPEATED_WORDS = 4, 12
"""A part that comes so often in a row, and covers so many words, is a loop and no caption."""
_REFUSAL = re.compile(
    r"""\W*(
      (i['\u2019]m|i\ am)\ (very\ |so\ |really\ )?(sorry|afraid|unable|not\ able)
    | (sorry|apologies|unfortunately)\b[^.!]{0,40}\b(can['\u2019]?t|cannot|unable|not\ able|no\ image)
    | i\ (can['\u2019]?t|cannot|can\ not|won['\u2019]?t|will\ not)
      \ (help|assist|describe|see|view|process|provide|comply|do|analy|identify)
    | as\ an?\ (ai|language|large\ language|artificial)\b
    | (很?抱歉|对不起|不好意思|我无法|我不能|作为一个?(人工智能|ai|语言模型))
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MARKUP = re.compile(r"\s*(<!doctype|<html\b|<\?xml\b)", re.IGNORECASE)


def caption_in(answer: Answer) -> tuple[str | None, Drop | None]:
    """The caption that an answer is, in one line, or why it is none."""
    if answer.text is None:
        return None, Drop.RECAPTION_FAILED
    text = " ".join(clean_unicode(answer.text).split())
    said = words(text)
    if not said:
        return None, Drop.RECAPTION_EMPTY
    if _REFUSAL.match(text):
        return None, Drop.RECAPTION_REFUSED
    if is_loop(said):
        return None, Drop.RECAPTION_REPEATED
    if answer.truncated:
        return None, Drop.RECAPTION_TRUNCATED
    if _MARKUP.match(text) or IMAGE_MARK in text or "\0" in text or len(text) > MAX_TEXT:
        return None, Drop.RECAPTION_FAILED
    return text, None


def is_loop(said: list[str]) -> bool:
    """Whether a part of up to MOST_PARTS words comes REPEATS times or more in a row, over REPEATED_WORDS words."""
    for size in range(1, MOST_PARTS + 1):
        run, needed = 0, max((REPEATS - 1) * size, REPEATED_WORDS - size)
        for place in range(size, len(said)):
            run = run + 1 if said[place] == said[place - size] else 0
            if run >= needed:
                return True
    return False
