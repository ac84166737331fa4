"""Take down: the rows that the corpus's takedown lists name are left out of the next snapshot as `taken_down`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.removal.entries import Entries
from pipelines.removal.match import Match, match, match_all, rows_of
from pipelines.steps.context import Build, Shard
from schemas.reasons import Drop
from storage.store import Store


@dataclass(frozen=True)
class TakeDownStep:
    """Looks for the rows of one raw shard that are to be taken down."""

    corpus: Store
    entries: Entries

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: Shard, advance: Callable[[int], None]) -> list[list[Any]]:
        """Their places, and the SHA-256 of their pictures."""
        found = match(self.entries, rows_of(self.corpus, work.layers["raw"]))
        advance(work.rows)
        return [sorted(found.rows), sorted(sha256.hex() for sha256 in found.pictures)]


def take_down(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """The shards, each with its taken-down rows among those that are superseded."""
    if not build.taken_down:
        return list(shards)
    rows: list[set[int]] = [set() for _ in shards]

    def look(entries: Entries) -> Match:
        items = [(shard.label, shard) for shard in shards]
        found = Match()
        step = TakeDownStep(build.corpus, entries)
        for mine, (places, pictures) in zip(
            rows, build.run("takedown", step, items, light_rows=sum(shard.rows for shard in shards)), strict=True
        ):
            mine.update(places)
            found.pictures.update(map(bytes.fromhex, pictures))
        return found

    match_all(build.taken_down, look)
    return [_without(shard, mine) for shard, mine in zip(shards, rows, strict=True)]


def _without(shard: Shard, rows: set[int]) -> Shard:
    others = {row: reason for row, reason in shard.superseded if row not in rows}
    found = {**others, **dict.fromkeys(rows, Drop.TAKEN_DOWN)}
    return replace(shard, superseded=tuple(sorted(found.items())))
