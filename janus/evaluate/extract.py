"""How an answer is found in what a model says. Strict on purpose: what cannot be read is wrong, not guessed.

The rules are those of VLMEvalKit, with which the paper's authors published their own reproduction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

_WORDS = re.compile(r"[a-z0-9]+")
_NUMBERS = {
    word: value
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}


def yes_no(text: str) -> Literal["yes", "no"] | None:
    """The answer if exactly one of the words yes and no occurs, else None.

    "Yes, it is." is yes; "No." is no; "Yes and no", "I know nothing" and "" are None.
    """
    found = {"yes", "no"} & set(_WORDS.findall(text.lower()))
    if found == {"yes"}:
        return "yes"
    return "no" if found == {"no"} else None


def choice(text: str, options: Sequence[str]) -> str | None:
    """The letter of the chosen option, or None.

    A letter counts if it stands alone and no other option's letter does; in an answer of more than three words a
    stand-alone "A" is taken for the article. Failing that, the answer must contain the text of exactly one option.

    Args:
        text: what the model said, e.g. "B", "(B) blue", "The answer is B.", "It is blue".
        options: texts of A, B, C, ... in order.
    """
    letters = [chr(ord("A") + index) for index in range(len(options))]
    words = re.findall(r"[A-Za-z0-9]+", text)
    alone = {letter for letter in letters if letter in words}
    if len(words) > 3:
        alone.discard("A")
    if len(alone) == 1:
        return alone.pop()
    if alone:
        return None
    said = _WORDS.findall(text.lower())
    named = [letter for letter, option in zip(letters, options, strict=True) if _contains(said, option)]
    return named[0] if len(named) == 1 else None


def _contains(words: list[str], option: str) -> bool:
    wanted = _WORDS.findall(option.lower())
    return bool(wanted) and any(
        words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1)
    )


def number(text: str) -> int | None:
    """The one number an answer names, in digits or words up to twelve, or None if there is none or more than one.

    "3", "There are three." and "three (3)" are 3; "two or three" is None.
    """
    found = set()
    for word in _WORDS.findall(text.lower()):
        if word.isdigit():
            found.add(int(word))
        elif word in _NUMBERS:
            found.add(_NUMBERS[word])
    return found.pop() if len(found) == 1 else None
