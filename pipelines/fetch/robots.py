"""robots.txt (RFC 9309) and ai.txt, with what sites say there about training: read for one crawler, ours.

Protego matches paths; which group is ours is decided here, as RFC 9309 section 2.2.1 has it: the groups of our product
token, whatever version is written behind it, else those of `*`. Four vocabularies may refuse a path, each with its own
longest match, and one no is enough:

- Allow / Disallow
- AllowAITraining / DisallowAITraining: PATH
- Content-Signal: [PATH] ai-train=no
- Content-Usage: [PATH] train-ai=n

Lines of the last two before any User-agent line are for everybody. A file that is not text in UTF-8 is Unreadable; so
is one of which a line that would apply to us has bytes that are not, because a path cut short or garbled matches less
than its owner meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from protego import Protego

from pipelines.fetch.optout import SIGNALS, USAGES, preference
from pipelines.fetch.patterns import matches

MAX_BYTES = 500 * 1024
"""Read at most; what follows is not there (RFC 9309, section 2.5)."""

_AGENT = re.compile(r"user[- ]?agent\b\s*:?\s*(.*)", re.IGNORECASE)
_SITE_WIDE = re.compile(r"(?:site-?maps?|host)\b", re.IGNORECASE)
_FIELD = re.compile(r"([a-z-]+)\s*:\s*(.*)", re.IGNORECASE)
_RULE = re.compile(r"di|allow|content-", re.IGNORECASE)
_LISTS = {"content-signal": ("Content-Signal", SIGNALS), "content-usage": ("Content-Usage", USAGES)}
_BINARY = (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")
"""Byte order marks of UTF-16 and UTF-32, and gzip."""


_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<!--")


class Unreadable(ValueError):
    """The file is there and cannot be read, which counts as a no."""


def text_of(body: bytes, *, whole: bool = True) -> str:
    """The text of a policy file, without its byte order mark; bytes that are not UTF-8 stay as surrogates.

    Of one that is not `whole`, the line that was cut is left out. Raises Unreadable.
    """
    if body.startswith(_BINARY) or b"\0" in body:
        raise Unreadable("not text in UTF-8")
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    return text if whole else text[: max(text.rfind("\n"), text.rfind("\r")) + 1]


def is_page(body: bytes) -> bool:
    """Whether a server has sent a web page in place of a file, as many do for every path that they do not know."""
    return body.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower().startswith(_PAGE)


class Rules:
    """What a robots.txt or ai.txt says to one product token."""

    def __init__(self, file: str, text: str, token: str) -> None:
        """`file` is its name, for messages. Raises Unreadable."""
        lines = list(_ours(text.splitlines(), token))
        if any("\udc80" <= letter <= "\udcff" for line in lines if _RULE.match(line) for letter in line):
            raise Unreadable("not text in UTF-8")
        self._vocabularies = [
            (f"{file}: {name}", Protego.parse("User-agent: *\n" + "\n".join(rules)))
            for name, rules in _vocabularies(lines).items()
            if rules
        ]

    def refusal(self, url: str) -> str | None:
        """The vocabulary that refuses `url`, None if none does."""
        return next((name for name, rules in self._vocabularies if not rules.can_fetch(url, "*")), None)


def _ours(lines: Iterable[str], token: str) -> Iterator[str]:
    """The lines that hold for `token`: those of its groups, else of `*`, and those before any group."""
    groups: list[tuple[list[str], list[str]]] = [([], [])]
    naming = False
    for line in (line.partition("#")[0].strip() for line in lines):
        if (agent := _AGENT.match(line)) is not None:
            if not naming:
                groups.append(([], []))
            groups[-1][0].append(agent.group(1))
            naming = True
        elif line and not _SITE_WIDE.match(line):
            groups[-1][1].append(line)
            naming = False
    everybody = groups[0][1]
    named = [rules for agents, rules in groups[1:] if any(_names(agent, token) for agent in agents)]
    others = [rules for agents, rules in groups[1:] if "*" in (agent.strip() for agent in agents)]
    # Allow and Disallow before any group belong to nobody (RFC 9309, section 2.2).
    yield from (line for line in everybody if line.lower().startswith("content-"))
    for rules in named or others:
        yield from rules


def _names(agent: str, token: str) -> bool:
    """Whether a User-agent line means `token`: as a word of its own, in any case, with any version behind it."""
    agent = agent.strip().lower()
    if "*" in agent and agent != "*":
        return matches(f"{agent}$", token)
    return re.search(rf"(?<![\w-]){re.escape(token)}(?![\w-])", agent) is not None


def _vocabularies(lines: Iterable[str]) -> dict[str, list[str]]:
    """Lines as Allow and Disallow rules, by the vocabulary they are of."""
    found: dict[str, dict[str, bool]] = {"DisallowAITraining": {}, "Content-Signal": {}, "Content-Usage": {}}
    access = []
    for line in lines:
        field = _FIELD.match(line)
        name, value = (field.group(1).lower(), field.group(2)) if field else ("", "")
        if name in ("disallowaitraining", "allowaitraining"):
            if value:
                _note(found["DisallowAITraining"], value, name == "allowaitraining")
        elif name in _LISTS:
            title, wanted = _LISTS[name]
            path, rest = [*value.split(None, 1), ""][:2] if value.startswith(("/", "*")) else ("/", value)
            if (says := preference(rest, wanted)) is not None:
                _note(found[title], path, says)
        else:
            access.append(line)
    rules = {
        name: [f"{'Allow' if allowed else 'Disallow'}: {path}" for path, allowed in paths.items()]
        for name, paths in found.items()
    }
    return {"Disallow": access, **rules}


def _note(paths: dict[str, bool], path: str, allowed: bool) -> None:
    """Of two lines for one path the stricter holds."""
    paths[path] = allowed and paths.get(path, True)
