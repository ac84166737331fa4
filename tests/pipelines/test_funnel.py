from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from demo.report.scores import auc, split_by_truth
from pipelines.funnel import Funnel


def test_auc_is_the_share_of_pairs_in_order() -> None:
    dice = random.Random(0)
    high = [dice.randrange(20) for _ in range(60)]  # few values: many ties
    low = [dice.randrange(15) for _ in range(40)]
    pairs = [(a > b) + (a == b) / 2 for a in high for b in low]
    assert auc(high, low) == pytest.approx(sum(pairs) / len(pairs))
    assert auc([2, 3], [0, 1]) == 1.0
    assert auc([1, 1], [1]) == 0.5


def test_auc_needs_both_groups() -> None:
    with pytest.raises(ValueError, match="found 1 and 0"):
        auc([1.0], [])


def test_truth_parts_right_from_wrong_and_leaves_other_damage_out(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    rows = [{"url": "b", "damage": "wrong_caption"}, {"url": "c", "damage": "tiny"}]
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = split_by_truth([("a", 0.9), ("b", 0.1), ("c", 0.5), ("d", 0.05)], truth)
    assert (scores.right, scores.wrong) == ([0.9, 0.05], [0.1])
    assert scores.auc == 0.5


def test_a_funnel_that_loses_a_row_does_not_add_up() -> None:
    assert Funnel("a", 10, 7, {"low_score": 2}, {"http_gone": 1}).adds_up
    assert not Funnel("a", 10, 7, {"low_score": 2}, {}).adds_up
