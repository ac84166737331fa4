"""Opt-outs that come with an answer: X-Robots-Tag and tdm-reservation.

| header                                                  | read as                                                   |
|---------------------------------------------------------|-----------------------------------------------------------|
| noai, noimageai, noml                                    | opted out: says so                                        |
| noindex, noimageindex, none                              | opted out: who must not be indexed must not be collected  |
| unavailable_after with a date that is past               | opted out, as noindex                                     |
| nofollow, nosnippet, noarchive, notranslate, max-…, all  | about how search engines show a page: no opt-out          |
| somebot: noai, noindex                                   | counts if somebot is `*` or our user agent                |
| tdm-reservation: 1                                       | opted out (TDM Reservation Protocol)                      |

A header may be repeated, hold a list, name a bot for what follows it up to the next bot's name, and hold dates with
commas and colons in them. The strictest word wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message

from pipelines.fetch.dates import header_date

OPT_OUT = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_NAME = re.compile(r"[a-z0-9_./*-]+")
# Commas inside a date ("Friday, 25 Jun 2027 ...") separate nothing.
_COMMA = re.compile(r",(?!\s*\d{1,2}[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))", re.IGNORECASE)


def product(user_agent: str) -> str:
    """The name robots rules know us by: "janus-forge/1.0 (+https://...)" is janus-forge."""
    return user_agent.split("/")[0].split(" ")[0].strip().lower()


def opted_out(headers: Message, user_agent: str, now: datetime | None = None) -> bool:
    """Whether the headers of an answer reserve it from us."""
    if any(value.strip() == "1" for value in headers.get_all("tdm-reservation", [])):
        return True
    ours = {"*", product(user_agent)}
    for value in headers.get_all("X-Robots-Tag", []):
        for bot, directive, argument in directives(value):
            if bot not in ours:
                continue
            if directive in OPT_OUT or (directive == "unavailable_after" and _past(argument, now)):
                return True
    return False


def directives(header: str) -> Iterator[tuple[str, str, str]]:
    """The (bot, directive, argument) triples of one X-Robots-Tag header; bot is * where none is named."""
    bot = "*"
    for part in _COMMA.split(header):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        name = name.lower()
        if colon and name not in _VALUED and _NAME.fullmatch(name):
            bot = name
            name, colon, rest = (piece.strip() for piece in rest.partition(":"))
            name = name.lower()
        if name:
            yield bot, name, rest


def _past(date: str, now: datetime | None) -> bool:
    moment = header_date(date)
    return moment is not None and moment <= (now or datetime.now(UTC))
