"""The patterns of robots.txt and tdmrep.json, matched in linear time."""

from __future__ import annotations


def matches(pattern: str, path: str) -> bool:
    """Whether `path` starts with `pattern`, in which `*` is any text and a last `$` the end, as in robots.txt.

    By hand and not by a regular expression: the pattern is a stranger's, and many `*` make those take for ever.
    """
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    anchored = pattern.endswith("$")
    for number, part in enumerate(others, start=1):
        if anchored and number == len(others):
            return path.endswith(part) and len(path) - len(part) >= position
        found = path.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return position == len(path) or not anchored
