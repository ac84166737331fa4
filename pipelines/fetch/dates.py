"""Dates and waiting times in headers, which a server may fill with anything."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime


def header_date(text: str) -> datetime | None:
    """The moment that `text` names in the HTTP or ISO 8601 form (UTC if it names no zone), None if it names none."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None


def retry_after(headers: Message, now: datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or a date; None without one that makes sense."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    moment = header_date(value)
    return None if moment is None else max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
