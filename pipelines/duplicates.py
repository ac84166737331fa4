"""Show which rows other rules for duplicates would drop, before anything is dropped.

    python -m pipelines.duplicates CORPUS --near-radius 8 --text-jaccard 0.7

Compares the rows of the newest snapshot by what is measured of them already, and writes nothing into the corpus. Rows
that a filter, an evaluation set or their source took out stay out. The comparison runs in this process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic
import tyro
from rich.table import Table

from janus.cli import UserError, console, parse, run
from pipelines import ledger
from pipelines.signals import signal_layer
from pipelines.steps.comparison import compare
from pipelines.steps.dedup import EMBEDDINGS, SIGNATURES, DedupWork, Duplicate, embedding_width
from pipelines.steps.dedup_passes import AllPassesStep, DuplicatesOf
from schemas.manifest import SnapshotShard, load_snapshot
from schemas.printable import printable
from schemas.reasons import Drop
from schemas.sample import IMAGE_MARK
from schemas.spec import Dedup
from storage.local import LocalStore
from storage.places import Place, as_store

KEPT_NOW = Drop.KEPT.value
TEXT_SHOWN = 60
"""Characters of a row's text beside a pair."""


@dataclass(frozen=True)
class Lost:
    """A row that the rules would drop."""

    source: str
    key: str
    uid: str
    reason: str
    winner: str
    """Uid of the row that stays."""
    now: str
    """What the newest snapshot says of the row: kept, or the reason it was dropped for."""
    text: str


def duplicates(corpus: Place, dedup: Dedup) -> Iterator[Lost]:
    """The rows of the newest snapshot that `dedup` would drop, shard by shard.

    Raises FileNotFoundError if there is no corpus, and ValueError with one line if texts, or pictures by embedding, are
    to be compared and none is measured.
    """
    store = as_store(corpus)
    shards = load_snapshot(store).shards
    compared = {SIGNATURES: ("text has a signature", dedup.text_jaccard)}
    compared[EMBEDDINGS] = ("picture has an embedding", dedup.embedding_cosine)
    for field, (what, threshold) in compared.items():
        signal = field.partition(".")[0]
        if threshold is not None and not any(signal_layer(signal) in shard.upstream for shard in shards):
            raise ValueError(
                f"{store.url}: no {what} yet; add [signals.{signal}] to the spec and build: "
                "nothing else is measured again"
            )
    with tempfile.TemporaryDirectory() as scratch:
        tasks = []
        for task in sorted({shard.task for shard in shards}):
            own = [(index, shard) for index, shard in enumerate(shards) if shard.task == task]
            works = [DedupWork(index, s.upstream, s.task, s.first_snapshot, (), {}) for index, s in own]
            rows = [ledger.load_manifest(store, shard.upstream["rows"]).rows for _, shard in own]
            width = embedding_width(store, works, dedup)
            tasks.append(compare(task, works, rows, dedup, LocalStore(Path(scratch)), width))
        groups = [group for task in tasks for group in task]
        for group, digests in zip(groups, AllPassesStep(store).run(tasks, lambda _: None), strict=True):
            for place, (work, found) in enumerate(zip(group.shards, digests, strict=True)):
                of_shard = DuplicatesOf(found, group.comparison, group.index, place).read()
                yield from _lost(store, shards[work.index], of_shard)


def _lost(corpus: Place, shard: SnapshotShard, found: Sequence[Duplicate]) -> Iterator[Lost]:
    if not found:
        return
    at = [duplicate.row for duplicate in found]
    rows = ledger.open_input(corpus, shard.upstream["rows"])[1].table(["uid", "key", "messages"]).take(at)
    now = ledger.open_input(corpus, shard.upstream["decision"])[1].table(["reason"]).take(at).column("reason")
    for duplicate, row, reason in zip(found, rows.to_pylist(), now.to_pylist(), strict=True):
        text = " ".join(" ".join(message["text"] for message in row["messages"]).replace(IMAGE_MARK, " ").split())
        said = reason or KEPT_NOW
        yield Lost(shard.source, row["key"], row["uid"].hex(), duplicate.reason, duplicate.winner, said, text)


@dataclass
class Command:
    """Show which rows other rules for duplicates would drop: counts by source and reason, and the first of the pairs.

    Nothing is measured, and nothing in the corpus changes. What is not given here is as in a spec that does not say.
    """

    corpus: tyro.conf.Positional[str]
    """Folder or address (s3://, gs://, az://) of one corpus, the one that holds LATEST."""
    exact: bool = True
    """Compare by content."""
    near_radius: int | Literal["false"] = 4
    """Bits in which perceptual hashes of duplicates differ at most: 0 is equal hashes only, false no comparison."""
    text_jaccard: float | Literal["false"] = "false"
    """Least similarity of texts that are duplicates; false is no comparison."""
    embedding_cosine: float | Literal["false"] = "false"
    """Least cosine of the embeddings of pictures that are duplicates; false is no comparison."""
    pairs: int = 10
    """How many pairs to show."""
    out: Path | None = None
    """A file for all of them, a JSON object a line: source, key, uid, reason, winner (its uid), now, text."""

    @property
    def dedup(self) -> Dedup:
        """As a spec says it. Raises UserError with one line."""
        names = ("exact", "near_radius", "text_jaccard", "embedding_cosine")
        given = {name: getattr(self, name) for name in names}
        try:
            return Dedup.model_validate({name: False if value == "false" else value for name, value in given.items()})
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            option = f"--{str(first['loc'][0]).replace('_', '-')}"
            raise UserError(f"{option}: {first['msg']}, found {first['input']}") from None


def main() -> None:
    """Command line."""
    command = parse(Command, prog="python -m pipelines.duplicates")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    shown: list[Lost] = []
    with command.out.open("w", encoding="utf-8") if command.out else nullcontext() as out:
        for lost in duplicates(command.corpus, command.dedup):
            counts[lost.source][lost.reason] += 1
            counts[lost.source][KEPT_NOW] += lost.now == KEPT_NOW
            reasons[lost.reason] += 1
            if len(shown) < command.pairs:
                shown.append(lost)
            if out is not None:
                out.write(json.dumps(vars(lost), ensure_ascii=False) + "\n")
    table = Table("source", *reasons, "kept now")
    for source, of_source in sorted(counts.items()):
        table.add_row(source, *(f"{of_source[reason]:,}" for reason in reasons), f"{of_source[KEPT_NOW]:,}")
    terminal = console()
    terminal.file = sys.stdout
    if counts:
        terminal.print(table)
    for lost in shown:
        print(f"{lost.reason}: {printable(lost.source)} {printable(lost.key)} ({lost.uid}), now {lost.now}")
        print(f"  stays: {lost.winner}  text: {printable(lost.text[:TEXT_SHOWN])}")
    newly = sum(of_source[KEPT_NOW] for of_source in counts.values())
    print(f"{command.corpus}: {reasons.total():,} rows would be dropped as duplicates, {newly:,} of them are kept now")


if __name__ == "__main__":
    run(main)
