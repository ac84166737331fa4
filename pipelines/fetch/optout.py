"""Opt-outs that come with an answer, in its headers.

| header                                                  | read as                                                   |
|---------------------------------------------------------|-----------------------------------------------------------|
| X-Robots-Tag: noai, noimageai, noml, disallowaitraining | opted out: says so                                        |
| noindex, noimageindex, none                             | opted out: who must not be indexed must not be collected  |
| unavailable_after with a date that is past              | opted out, as noindex; one that cannot be read too        |
| nofollow, nosnippet, noarchive, notranslate, max-…, all | about how search engines show a page: no opt-out          |
| somebot: noai, noindex                                  | counts if somebot is `*` or our user agent                |
| tdm-reservation: 1                                      | opted out (TDM Reservation Protocol); all but 0 counts    |
| Content-Signal: ai-train=no                             | opted out (Content Signals)                               |
| Content-Usage: train-ai=n                               | opted out (IETF AI Preferences)                           |
| DisallowAITraining                                      | opted out, whatever its value but false, 0, no            |

A header may be repeated, hold a list, name a bot for what follows it up to the next bot's name, and hold dates with
commas and colons in them. The strictest word wins. Sources of each: docs/download.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message

from pipelines.fetch.dates import header_date

OPT_OUT = frozenset({"noai", "noimageai", "noml", "disallowaitraining", "noindex", "noimageindex", "none"})
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_NAME = re.compile(r"[a-z0-9_./*-]+")
# Commas inside a date ("Friday, 25 Jun 2027 ...") separate nothing.
_COMMA = re.compile(r",(?!\s*\d{1,2}[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))", re.IGNORECASE)

SIGNALS = frozenset({"ai-train"})
"""Uses in Content-Signal that are ours."""
USAGES = frozenset({"train-ai", "train-genai", "genai", "ai", "tdm", "bots"})
"""Categories of Content-Usage that are ours or contain it: train-ai of today's draft, the others of earlier ones."""
_YES = frozenset({"y", "yes", "1", "?1", "true", "allow"})
_NO = frozenset({"n", "no", "0", "?0", "false"})


def product(user_agent: str) -> str:
    """The name robots rules know us by: "janus-forge/1.0 (+https://...)" is janus-forge."""
    return user_agent.split("/")[0].split(" ")[0].strip().lower()


def reserved(headers: Message, user_agent: str, now: datetime | None = None) -> str | None:
    """Which header of an answer reserves it from us, None if none does."""
    for value in headers.get_all("tdm-reservation", []):
        if value.strip() not in ("", "0"):
            return _shown("tdm-reservation", value)
    for name, wanted in (("Content-Signal", SIGNALS), ("Content-Usage", USAGES)):
        for value in headers.get_all(name, []):
            if preference(value, wanted) is False:
                return _shown(name, value)
    for value in headers.get_all("DisallowAITraining", []):
        if value.strip().lower() not in _NO:
            return _shown("DisallowAITraining", value)
    ours = {"*", product(user_agent)}
    for value in headers.get_all("X-Robots-Tag", []):
        for bot, directive, argument in directives(value):
            if bot in ours and (directive in OPT_OUT or (directive == "unavailable_after" and _past(argument, now))):
                return _shown("X-Robots-Tag", value)
    return None


def preference(text: str, wanted: frozenset[str]) -> bool | None:
    """What a list like `search=yes, ai-train=no` says of the uses in `wanted`: False if it refuses one of them, or says
    of one what is neither yes nor no; True if it only allows; None if it names none."""
    found = None
    for part in re.split(r"[,;]", text):
        name, _, value = part.partition("=")
        if name.strip().lower() in wanted:
            if value.strip().strip("\"'").lower() not in _YES:
                return False
            found = True
    return found


def directives(header: str) -> Iterator[tuple[str, str, str]]:
    """The (bot, directive, argument) triples of one X-Robots-Tag header; bot is * where none is named."""
    bot = "*"
    for part in _COMMA.split(header.replace(";", ",")):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        name = name.lower()
        if colon and name not in _VALUED and _NAME.fullmatch(name):
            # "janus-forge/1.0: noai" names the product, whatever its version.
            bot = product(name)
            name, colon, rest = (piece.strip() for piece in rest.partition(":"))
            name = name.lower()
        if colon:
            yield bot, name, rest
        else:
            yield from ((bot, word, "") for word in name.split())  # some write spaces for commas


def _past(date: str, now: datetime | None) -> bool:
    """Whether a date is past. One that cannot be read counts as past: what cannot be read is a no."""
    moment = header_date(date)
    return moment is None or moment <= (now or datetime.now(UTC))


def _shown(name: str, value: str) -> str:
    """A header for people: its start, printable."""
    return f"{name}: " + "".join(letter if letter.isprintable() else "?" for letter in value.strip()[:80])
