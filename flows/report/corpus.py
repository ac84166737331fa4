"""What a corpus says about itself: the funnel, and how its caption scores tell planted wrong captions apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from schemas.manifest import Snapshot
from schemas.reasons import Drop, Outcome

ROWS_IN = "rows"
"""Name of the number of rows in, in a snapshot's funnel."""


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
    drops = {reason.value for reason in Drop} - {Drop.KEPT.value}
    failures = {outcome.value for outcome in Outcome} - {Outcome.OK.value}
    return [
        Funnel(
            source,
            counts[ROWS_IN],
            counts.get(Drop.KEPT.value, 0),
            {reason: count for reason, count in counts.items() if reason in drops and count},
            {reason: count for reason, count in counts.items() if reason in failures and count},
        )
        for source, counts in sorted(snapshot.funnel.items())
    ]


def caption_scores(corpus: Path, snapshot: Snapshot, source: str | None = None) -> list[tuple[str, float]]:
    """(address of the first image, caption score) of every scored row of `source`, or of all sources, kept or not."""
    scored = []
    for shard in snapshot.shards:
        if source not in (None, shard.source):
            continue
        signals = _read(corpus / shard.upstream["signals"], ["uid", "caption_score"])
        raw = _read(corpus / shard.upstream["raw"], ["uid", "images"])
        assert signals["uid"] == raw["uid"], f"{shard.path}: layers are not aligned"
        for score, images in zip(signals["caption_score"], raw["images"], strict=True):
            if score is not None:
                scored.append((images[0]["url"] or "", score))
    return scored


def _read(path: Path, columns: list[str]) -> dict[str, list]:
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all().select(columns)
    return table.to_pydict()


@dataclass(frozen=True)
class CaptionScores:
    """Scores of right captions and of those that the world made wrong on purpose."""

    right: list[float]
    wrong: list[float]

    @property
    def auc(self) -> float:
        """Chance that a right caption scores higher than a wrong one (0.5: no better than a coin)."""
        return auc(self.right, self.wrong)


def split_by_truth(scored: list[tuple[str, float]], truth: Path) -> CaptionScores:
    """Part the scores of the built-in world's web captions by `truth.jsonl`; rows damaged otherwise are left out."""
    damage = {row["url"]: row["damage"] for row in map(json.loads, truth.read_text().splitlines())}
    return CaptionScores(
        [score for url, score in scored if url not in damage],
        [score for url, score in scored if damage.get(url) == "wrong_caption"],
    )


def auc(high: list[float], low: list[float]) -> float:
    """Area under the ROC curve: P(high > low) + P(high = low) / 2 over all pairs, by ranks (Mann-Whitney).

    Raises ValueError if either group is empty.
    """
    if not high or not low:
        raise ValueError(f"AUC needs values in both groups, found {len(high)} and {len(low)}")
    ordered = sorted([(value, 1) for value in high] + [(value, 0) for value in low])
    rank_sum, start = 0.0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        mean_rank = (start + 1 + end) / 2  # ranks count from 1; ties share their mean
        rank_sum += mean_rank * sum(group for _, group in ordered[start:end])
        start = end
    return (rank_sum - len(high) * (len(high) + 1) / 2) / (len(high) * len(low))
