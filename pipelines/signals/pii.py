"""Personal data in the text of a row: how many e-mail addresses, phone, card and IP numbers stand in it.

By form alone, so numbers of other kinds that look like one are counted too. What is counted as one is not counted as
another. Values are numbers only: nothing that was found is kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Values

VERSION = 1
FIELDS = {"emails": pa.int32(), "ips": pa.int32(), "cards": pa.int32(), "phones": pa.int32()}
NEEDS = ("text",)

# Every repetition is bounded or cannot overlap what follows it, so that time is linear in the text.
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
IP = re.compile(r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])|[0-9A-Fa-f:]{3,39}(?![\w:]))")
CARD = re.compile(r"(?<![\w+.])(?<![0-9][ -])[2-6](?:[ -]?[0-9]){12,18}(?!\w|[ .-]?[0-9])", re.ASCII)
"""13 to 19 digits (ISO/IEC 7812) that begin as those of cards for travel, banking and shopping do."""
PHONE = re.compile(
    r"(?<![\w+.-])(?<![0-9] )(?:"
    r"\+[1-9](?:[ .-]?\(?[0-9]\)?){6,14}"  # international: a plus sign and 7 to 15 digits (ITU-T E.164)
    r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"  # North American
    r")(?!\w|[ .-]?[0-9])",
    re.ASCII,
)


def measure(row: Row) -> Values:
    """Counts in all text of the row."""
    return count(row.text)


def count(text: str) -> dict[str, int]:
    """Counts by FIELDS, of a text whose blanks are single spaces."""
    kinds: list[tuple[str, re.Pattern[str], Callable[[str], bool]]] = [
        ("emails", EMAIL, lambda found: True),
        ("ips", IP, is_ip),
        ("cards", CARD, passes_luhn),
        ("phones", PHONE, lambda found: True),
    ]
    counts = {}
    for name, pattern, holds in kinds:
        found = 0

        def take(match: re.Match[str], holds: Callable[[str], bool] = holds) -> str:
            nonlocal found
            if not holds(match[0]):
                return match[0]
            found += 1
            return "\n"  # part of none of them

        text = pattern.sub(take, text)
        counts[name] = found
    return counts


def is_ip(text: str) -> bool:
    """Whether it is an address, IPv4 or IPv6; of the latter one with a digit, for `a::b` is a name in programs."""
    try:
        return bool(ipaddress.ip_address(text)) and any(character.isdigit() for character in text)
    except ValueError:
        return False


def passes_luhn(text: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    return sum(digits[0::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0
