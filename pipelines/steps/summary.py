"""What a snapshot says about kept rows, counted once per train shard and kept in its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from schemas.manifest import TrainSummary


def summarise(uids: Sequence[bytes], lengths: Sequence[int], rows: pa.Table) -> TrainSummary:
    """Summary of a train shard.

    Args:
        uids: of its rows.
        lengths: of its rows, in tokens.
        rows: uid and licence of all rows of the shard, from any layer that has them. The train rows are some of these
            in the same order, so one walk matches them.
    """
    licences: Counter[str] = Counter()
    kept = iter(uids)
    wanted = next(kept, None)
    for uid, licence in zip(rows.column("uid").to_pylist(), rows.column("licence").to_pylist(), strict=True):
        if uid == wanted:
            licences[licence or ""] += 1
            wanted = next(kept, None)
    bounds = Counter(str(1 << (length - 1).bit_length()) for length in lengths)
    return TrainSummary(lengths=dict(sorted(bounds.items())), licences=dict(sorted(licences.items())))


def sum_up(summaries: Sequence[tuple[str, TrainSummary]]) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Length histogram per task, and licences, over the train shards given by (task, summary)."""
    lengths: dict[str, Counter[str]] = {task: Counter() for task, _ in summaries}
    licences: Counter[str] = Counter()
    for task, summary in summaries:
        lengths[task].update(summary.lengths)
        licences.update(summary.licences)
    histogram = {task: dict(sorted(counts.items())) for task, counts in sorted(lengths.items())}
    return histogram, dict(sorted(licences.items()))
