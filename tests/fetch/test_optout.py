"""Opt-outs in headers, in all their forms."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message

import pytest

from pipelines.fetch.optout import USAGES, directives, preference, product, reserved
from tests.fetch.behaviours import HEADERS, HEADERS_ALLOWING, ROBOTS_TAGS, ROBOTS_TAGS_ALLOWING

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def headers(*pairs: tuple[str, str]) -> Message:
    message = Message()
    for name, value in pairs:
        message[name] = value
    return message


@pytest.mark.parametrize("name", ROBOTS_TAGS)
def test_reserving_headers(name: str) -> None:
    what = reserved(headers(*(("X-Robots-Tag", value) for value in ROBOTS_TAGS[name])), "janus-forge", NOW)
    assert what is not None
    assert what.startswith("X-Robots-Tag: ")


@pytest.mark.parametrize("name", ROBOTS_TAGS_ALLOWING)
def test_allowing_headers(name: str) -> None:
    values = (("X-Robots-Tag", value) for value in ROBOTS_TAGS_ALLOWING[name])
    assert reserved(headers(*values), "janus-forge", NOW) is None


@pytest.mark.parametrize("lines", [*HEADERS.values(), *HEADERS_ALLOWING.values()], ids=" | ".join)
def test_other_headers(lines: tuple[str, ...]) -> None:
    message = headers(*((line.partition(":")[0], line.partition(":")[2].strip()) for line in lines))
    assert (reserved(message, "janus-forge") is not None) == (lines in HEADERS.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train-ai=n", False),
        ("train-ai=y", True),
        ("search=n", None),
        ("", None),
        ("train-ai", False),
        ("TRAIN-AI = N", False),
        ('train-ai="y"', True),
        ("train-ai=y;q=1", True),
        ("train-ai=y, train-ai=n", False),
        ("genai=n, train-ai=y", False),
        ("=n,=,,", None),
    ],
)
def test_preferences(text: str, says: bool | None) -> None:
    assert preference(text, USAGES) is says


def test_what_is_told_of_a_header_can_be_printed() -> None:
    what = reserved(headers(("tdm-reservation", "\x1b[2J" + "1" * 500)), "x")
    assert what is not None
    assert what.isprintable()
    assert len(what) < 120


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("noai", [("*", "noai", "")]),
        ("NoIndex, NOFOLLOW", [("*", "noindex", ""), ("*", "nofollow", "")]),
        ("bot: noai, max-snippet: 5", [("bot", "noai", ""), ("bot", "max-snippet", "5")]),
        ("a: noai, b: all", [("a", "noai", ""), ("b", "all", "")]),
        (
            "unavailable_after: Friday, 25 Jun 2027 15:00:00 GMT, noai",
            [("*", "unavailable_after", "Friday, 25 Jun 2027 15:00:00 GMT"), ("*", "noai", "")],
        ),
        ("unavailable_after: 2027-06-25T15:00:00Z", [("*", "unavailable_after", "2027-06-25T15:00:00Z")]),
        ("Bot/2.0: noai; nofollow noindex", [("bot", "noai", ""), ("bot", "nofollow", ""), ("bot", "noindex", "")]),
        ("bot: unavailable_after: 25-Jun-27 15:00:00 GMT", [("bot", "unavailable_after", "25-Jun-27 15:00:00 GMT")]),
        ("", []),
        (" , ,", []),
    ],
)
def test_directives(header: str, expected: list[tuple[str, str, str]]) -> None:
    assert list(directives(header)) == expected


@pytest.mark.parametrize(
    ("date", "past"),
    [
        ("25 Jun 2025 15:00:00 GMT", True),
        ("Wednesday, 25 Jun 2025 15:00:00 GMT", True),
        ("2025-06-25", True),
        ("2025-06-25T15:00:00Z", True),
        ("31 Dec 2025 23:00:00 -0200", False),  # 01:00 on 1 January, UTC
        ("2026-06-25T15:00:00+02:00", False),
        ("some day", True),  # what cannot be read is a no
    ],
)
def test_unavailable_after(date: str, past: bool) -> None:
    what = reserved(headers(("X-Robots-Tag", f"unavailable_after: {date}")), "x", NOW)
    assert (what is not None) == past


def test_bots_are_matched_by_product_name() -> None:
    agent = "My-Crawler/2.1 (+https://example.org/bot)"
    assert product(agent) == "my-crawler"
    assert reserved(headers(("X-Robots-Tag", "my-crawler: noai")), agent)
    assert reserved(headers(("X-Robots-Tag", "my-crawler/3: noai")), agent)
    assert not reserved(headers(("X-Robots-Tag", "my-crawler-2: noai")), agent)
