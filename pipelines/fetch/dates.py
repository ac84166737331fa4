"""Dates in headers, which a server may fill with anything."""

from __future__ import annotations

from datetime import UTC, datetime
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
