"""VLMEvalKit's reading rules as a second, independent statement, for differential tests: slow and word by word.

Written from the published description of `YOrN_Extraction`, `process_punctuation` and `can_infer`, and in another way
than `janus.evaluate.extract`: character loops in place of patterns and translation tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

MARKS = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
BLANKED = {".", "(", ")", "[", "]", ",", ":", ";", "!", "*", "#", "{", "}"}


def yes_no(answer: str) -> str | None:
    """Yes or no if the other does not stand beside it."""
    original = answer.lower()
    comma_between_digits = any(
        original[i] == "," and original[i - 1].isdecimal() and original[i + 1].isdecimal()
        for i in range(1, len(original) - 1)
    )
    kept = []
    for char in original:
        if char not in MARKS:
            kept.append(char)
            continue
        near_blank = any((a == char and b == " ") or (a == " " and b == char) for a, b in itertools.pairwise(original))
        kept.append("" if near_blank or comma_between_digits else " ")
    text, removed, result = "".join(kept), 0, ""
    for place, char in enumerate(text):
        if char == "." and not text[place + 1 : place + 2].isdecimal() and removed < 32:
            removed += 1
        else:
            result += char
    words = result.split()
    yes, no = words.count("yes") > 0, words.count("no") > 0
    if yes == no:
        return None
    return "yes" if yes else "no"


def choice(answer: str, options: Mapping[str, str]) -> str | None:
    """A lone letter, else the only option that is contained."""
    if answer.find("Failed to obtain answer via API") < 0:
        for refusal in (
            "Sorry, I can't help with images of people yet.",
            "I can't process this file.",
            "I'm sorry, but without the image provided",
            "Cannot determine the answer",
        ):
            if answer.count(refusal):
                return None
        blanked = "".join(" " if char in BLANKED else char for char in answer)
        words = blanked.split()
        hits = sum(1 for letter in options if any(word == letter for word in words))
        if hits == 1:
            return next(letter for letter in options if any(word == letter for word in words))
        if hits == 0 and any(word == "Z" for word in words):
            return None
    lower = answer.lower()
    if len(lower) > 2 * sum(map(len, options.values())):
        return None
    inside = [letter for letter in sorted(options) if lower.find(options[letter].lower()) >= 0]
    return inside[0] if len(inside) == 1 else None
