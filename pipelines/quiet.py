"""Keeping Beam's talk about itself off the terminal: none of it is about the corpus."""

from __future__ import annotations

import logging


class _NoApitools(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "apitools not found" not in record.getMessage()


def quiet_beam() -> None:
    """Call before the first import of apache_beam: that is when it complains about missing Google packages."""
    root = logging.getLogger()
    if not any(isinstance(known, _NoApitools) for known in root.filters):
        root.addFilter(_NoApitools())
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
