"""Text that others wrote, made safe to print."""

from __future__ import annotations

import re

# C0 and C1 control characters, DEL, marks that change the direction of text, line and paragraph separators, and lone
# surrogates (file names that are not UTF-8).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` with every control character written out (`\x1b`), so that it cannot steer a terminal or a log."""
    return _UNSAFE.sub(lambda match: _escaped(ord(match[0])), text)


def printable_lines(text: str) -> str:
    """As `printable`, for text that may have several lines: line feeds and tabs stay."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in "\n\t" else _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
