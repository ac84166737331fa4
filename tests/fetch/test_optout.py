"""X-Robots-Tag in all its forms, and the TDM reservation header."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message

import pytest

from pipelines.fetch.optout import directives, opted_out, product
from tests.fetch.behaviours import ROBOTS_TAGS, ROBOTS_TAGS_ALLOWING

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def headers(*pairs: tuple[str, str]) -> Message:
    message = Message()
    for name, value in pairs:
        message[name] = value
    return message


@pytest.mark.parametrize("name", ROBOTS_TAGS)
def test_reserving_headers(name: str) -> None:
    assert opted_out(headers(*(("X-Robots-Tag", value) for value in ROBOTS_TAGS[name])), "janus-forge", NOW)


@pytest.mark.parametrize("name", ROBOTS_TAGS_ALLOWING)
def test_allowing_headers(name: str) -> None:
    assert not opted_out(
        headers(*(("X-Robots-Tag", value) for value in ROBOTS_TAGS_ALLOWING[name])), "janus-forge", NOW
    )


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
        ("some day", False),
    ],
)
def test_unavailable_after(date: str, past: bool) -> None:
    assert opted_out(headers(("X-Robots-Tag", f"unavailable_after: {date}")), "x", NOW) == past


def test_bots_are_matched_by_product_name() -> None:
    agent = "My-Crawler/2.1 (+https://example.org/bot)"
    assert product(agent) == "my-crawler"
    assert opted_out(headers(("X-Robots-Tag", "my-crawler: noai")), agent)
    assert not opted_out(headers(("X-Robots-Tag", "my-crawler-2: noai")), agent)


def test_tdm_reservation() -> None:
    assert opted_out(headers(("TDM-Reservation", " 1 ")), "x")
    assert not opted_out(headers(("tdm-reservation", "0")), "x")
