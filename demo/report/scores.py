"""How well the caption score tells the planted wrong captions apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


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
