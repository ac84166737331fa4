"""The health gate: a shard of which too much failed is not committed, nor believed if it once was.

A network outage, a broken decoder or a wrong template must not be mistaken for 10,000 bad rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.reasons import NO_CAPTION, Drop, Outcome

GATE_ROWS = 20
"""A shard of fewer rows is judged as if good ones made up this number: two dead links of three prove nothing."""

NOT_LOADED = tuple(outcome.value for outcome in Outcome if outcome != Outcome.OK)
TOKENIZED = (Drop.KEPT.value, Drop.TOO_LONG.value, Drop.TOKENIZE_FAILED.value)
"""What became of the rows that reached the last step."""


class Unhealthy(ValueError):
    """A shard of which more failed than the spec allows."""


def check_health(counts: Mapping[str, int], max_failed_share: float, remedy: str) -> None:
    """Judge a shard of any layer by its rows per outcome or reason.

    Of all rows, those that could not be loaded or decoded, and those for which a model was to write a caption and wrote
    none; of those that were to be tokenized, those that could not be.
    Rows that a filter dropped did not fail.

    Raises Unhealthy with one line that ends in `remedy`.
    """
    for failures, among in ((NOT_LOADED, counts), (NO_CAPTION, counts), ((Drop.TOKENIZE_FAILED.value,), TOKENIZED)):
        failed, total = _sum(counts, failures), _sum(counts, among)
        if failed > max_failed_share * max(total, GATE_ROWS):
            found = sorted((-counts[name], name) for name in failures if counts.get(name))
            reasons = ", ".join(f"{name} {-count}" for count, name in found)
            raise Unhealthy(
                f"{failed} of {total} rows failed ({reasons}), more than max_failed_share = {max_failed_share:g}; "
                f"{remedy}"
            )


def _sum(counts: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(counts.get(name, 0) for name in names)
