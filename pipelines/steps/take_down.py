"""Take down: rows that the corpus's takedown lists name are left out of the next snapshot as `taken_down`, rows that
their sites have come to reserve as `opted_out`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.engine import run_folder_in
from pipelines.removal.entries import Entries, OptedOut, keep_opted_out, opted_out
from pipelines.removal.match import Match, match, match_all, rows_of
from pipelines.steps.context import Build, Shard
from schemas.reasons import Drop, Outcome
from schemas.spec import Limits, Operations
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


@dataclass(frozen=True)
class RecheckStep:
    """Asks the sites of one raw shard's pictures whether they reserve them today."""

    corpus: Store
    limits: Limits
    operations: Operations
    notes: Path | None
    """Folder in which the workers share what they learn about hosts; None if they have none in common."""
    before: frozenset[str]
    """Uids of rows that were reserved when the sites were last asked, hex."""

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, work: Shard, advance: Callable[[int], None]) -> list[Any]:
        """Uids of the rows that are reserved, and the number of addresses whose sites do not answer."""
        from pipelines.fetch.recheck import recheck

        rows = [
            (row.uid.hex(), {address for picture in row.pictures if picture.sha256 for address in picture.addresses})
            for row in rows_of(self.corpus, work.layers["raw"])
        ]
        addresses = {address for _, of_row in rows for address in of_row if address}
        refused, unknown = recheck(addresses, self.limits, self.operations, self.notes)
        advance(work.rows)
        found = [uid for uid, of_row in rows if of_row & refused or (of_row & unknown and uid in self.before)]
        return [found, len(unknown)]


def take_down(build: Build, shards: Sequence[Shard]) -> list[Shard]:
    """The shards, each with its rows that are taken down or opted out among those that are superseded.

    Raises ValueError if sites are to be asked again by a spec that does not heed them.
    """
    if build.operations.recheck:
        _recheck(build, shards)
    reserved = frozenset(map(bytes.fromhex, opted_out(build.corpus).uids))
    if reserved:
        found = _look(build, shards, Entries(uids=reserved))[1]
        shards = [_without(shard, rows, Outcome.OPTED_OUT) for shard, rows in zip(shards, found, strict=True)]
    if not build.taken_down:
        return list(shards)
    rows: list[set[int]] = [set() for _ in shards]

    def look(entries: Entries) -> Match:
        match, places = _look(build, shards, entries)
        for mine, more in zip(rows, places, strict=True):
            mine |= more
        return match

    match_all(build.taken_down, look)
    return [_without(shard, mine, Drop.TAKEN_DOWN) for shard, mine in zip(shards, rows, strict=True)]


def _look(build: Build, shards: Sequence[Shard], entries: Entries) -> tuple[Match, list[set[int]]]:
    """The pictures of the rows that entries name, and the places of these rows in each shard."""
    items = [(shard.label, shard) for shard in shards]
    light_rows = sum(shard.rows for shard in shards)
    found = build.run("takedown", TakeDownStep(build.corpus, entries), items, light_rows=light_rows)
    pictures = {bytes.fromhex(sha256) for _, hashes in found for sha256 in hashes}
    return Match(pictures=pictures), [set(places) for places, _ in found]


def _recheck(build: Build, shards: Sequence[Shard]) -> None:
    """Ask the sites of all pictures again, and note what they say in the corpus."""
    if not build.spec.limits.respect_opt_out:
        raise ValueError("--recheck robots: the spec has limits.respect_opt_out = false")
    before = frozenset(opted_out(build.corpus).uids)
    with run_folder_in(build.scratch, "recheck") as notes:
        step = RecheckStep(build.corpus, build.spec.limits, build.operations, notes.folder, before)
        found = build.run("recheck", step, [(shard.label, shard) for shard in shards])
    uids = sorted({uid for of_shard, _ in found for uid in of_shard})
    keep_opted_out(build.corpus, OptedOut(uids=tuple(uids), unanswered=sum(unknown for _, unknown in found)))


def _without(shard: Shard, rows: set[int], reason: Drop | Outcome) -> Shard:
    others = {row: other for row, other in shard.superseded if row not in rows}
    found = {**others, **dict.fromkeys(rows, reason)}
    return replace(shard, superseded=tuple(sorted(found.items())))
