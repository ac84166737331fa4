"""A look at the first rows of a source, before a build plans anything."""

from __future__ import annotations

from schemas.spec import Source

PREVIEW_ROWS = 100
"""Rows of each source that are looked at: more than make a share of failed rows credible (`health.GATE_ROWS`)."""


class Preview(Source):
    """A source of which the first rows are wanted, soon.

    What takes all of a file before the first row makes do with its beginning: of a join, the first captions are read,
    and one of them stands for all others.
    """
