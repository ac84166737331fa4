"""What a corpus says about itself: the funnel of every source, and the caption scores of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.ledger import open_input
from schemas.layers import signal_layer
from schemas.manifest import Snapshot
from schemas.reasons import ROWS_IN, Drop, Outcome
from storage.places import Place


@dataclass(frozen=True)
class Funnel:
    """One source's rows: in = kept + dropped by reason + failed by reason."""

    source: str
    rows: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, int]

    @property
    def adds_up(self) -> bool:
        """Whether no row vanished."""
        return self.rows == self.kept + sum(self.dropped.values()) + sum(self.failed.values())


def funnels(snapshot: Snapshot) -> list[Funnel]:
    """The funnel of every source, in order of their names."""
    failures = {outcome.value for outcome in Outcome} - {Outcome.OK.value}
    return [
        Funnel(
            source,
            counts[ROWS_IN],
            counts.get(Drop.KEPT.value, 0),
            {
                reason: count
                for reason, count in counts.items()
                if reason not in {ROWS_IN, Drop.KEPT, *failures} and count
            },
            {reason: count for reason, count in counts.items() if reason in failures and count},
        )
        for source, counts in sorted(snapshot.funnel.items())
    ]


def caption_scores(corpus: Place, snapshot: Snapshot, source: str | None = None) -> list[tuple[str, float]]:
    """(address of the first image, caption score) of every scored row of `source`, or of all sources, kept or not."""
    scored = []
    for shard in snapshot.shards:
        if source not in (None, shard.source):
            continue
        if (path := shard.upstream.get(signal_layer("caption_score"))) is None:
            continue
        signals = _read(corpus, path, ["uid", "cosine"])
        raw = _read(corpus, shard.upstream["raw"], ["uid", "images"])
        assert signals["uid"] == raw["uid"], f"{shard.path}: layers are not aligned"
        for score, images in zip(signals["cosine"], raw["images"], strict=True):
            if score is not None:
                scored.append((images[0]["url"] or "", score))
    return scored


def _read(corpus: Place, path: str, columns: list[str]) -> dict[str, list]:
    return open_input(corpus, path)[1].table(columns).to_pydict()
