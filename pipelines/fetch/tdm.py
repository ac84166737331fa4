"""/.well-known/tdmrep.json of the TDM Reservation Protocol: which paths a site reserves from text and data mining.

The first rule whose `location` matches decides. One that is not JSON, or that reserves something without saying what,
is Unreadable.
"""

from __future__ import annotations

import json

from pipelines.fetch.robots import Unreadable


def tdm_rules(body: bytes) -> list[tuple[str, bool]]:
    """(path pattern, whether reserved) of a tdmrep.json in UTF-8, UTF-16 or UTF-32, in order. Raises Unreadable."""
    if not body.strip():
        return []
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("not JSON") from None
    rules = []
    for entry in content if isinstance(content, list) else [content]:
        if not isinstance(entry, dict) or "tdm-reservation" not in entry:
            continue
        location = entry.get("location")
        reserved = entry["tdm-reservation"] not in (0, "0", None, "")  # False is 0
        if isinstance(location, str):
            rules.append((location, reserved))
        elif reserved:
            raise Unreadable("a reservation without a location")
    return rules
