"""What the last reading of each source met: its rows, those skipped by reason, and the first messages about the rest.

    corpus/readings/<source>.<digest of its rows shards>.json

Skipped rows are in no shard, so this is where they are counted; publishing takes the counts into the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable

import pydantic

from pipelines.reading.account import Account
from schemas.digest import canonical_json, digest
from storage.places import Place, as_store
from storage.store import Store

FOLDER = "readings"


class Reading(pydantic.BaseModel):
    """Counts of one reading of a source. Rows met = rows + skipped."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Rows that are in the corpus, those that could not be read among them."""
    failed: dict[str, int]
    """Of these, by outcome, those that could not be read."""
    skipped: dict[str, int]
    """Rows that are not in the corpus, by reason."""
    examples: dict[str, list[str]]
    """Outcome or reason to the first messages, or places, of such rows."""


def reading_key(source: str, shards: Iterable[str]) -> str:
    """Where in the corpus the reading is that gave a source these rows shards (paths)."""
    return f"{FOLDER}/{source}.{digest(sorted(shards))[:16]}.json"


def write_reading(corpus: Store, account: Account, shards: Iterable[str]) -> None:
    """Leave the account of a source that was read to its end, with the paths of all its rows shards."""
    reading = Reading(
        rows=account.rows,
        failed={name.value: count for name, count in sorted(account.failed.items())},
        skipped={name.value: count for name, count in sorted(account.skipped.items())},
        examples=account.examples,
    )
    key, data = reading_key(account.source.name, shards), canonical_json(reading)
    if corpus.size(key) is None or corpus.read(key) != data:  # a build with nothing to do writes nothing
        corpus.write(key, data)


def read_reading(corpus: Place, source: str, shards: Iterable[str]) -> Reading | None:
    """The reading that gave a source these rows shards; None if it is gone or damaged: the next build reads again."""
    try:
        return Reading.model_validate_json(as_store(corpus).read(reading_key(source, shards)))
    except (FileNotFoundError, pydantic.ValidationError):
        return None
