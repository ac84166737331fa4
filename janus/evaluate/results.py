"""results.json: the scores of an evaluation and what they depend on, and two evaluations compared (design D19)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from janus.evaluate.metrics import Metric, difference
from janus.evaluate.store import read_lines, write_json

if TYPE_CHECKING:
    from janus.evaluate.chosen import Chosen

FILE = "results.json"
CONDITIONS = ("split", "items", "protocol", "prompts", "sampling", "max_new_tokens", "dtype")
"""What two numbers must share to be compared (design D19)."""


def write_results(
    out: Path, records: Mapping[str, Any], *, run: Mapping[str, Any], comparisons: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write and return what stands in `out/results.json`: `run`, `benchmarks` and `comparisons`."""
    results = {"run": dict(run), "benchmarks": dict(records), "comparisons": dict(comparisons or {})}
    write_json(out / FILE, results)
    return results


def read_results(out: Path) -> dict[str, Any]:
    """What `write_results` wrote into the folder of an evaluation. Raises with one line if there is none."""
    path = out / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found: {out} holds no finished evaluation")
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        results["benchmarks"].items()
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not the results of an evaluation") from None
    return results


def read_scores(out: Path) -> dict[str, dict[str, float]]:
    """The scores alone, without intervals: benchmark to score to value."""
    records = read_results(out)["benchmarks"]
    return {
        name: {score: found["value"] for score, found in record["scores"].items()} for name, record in records.items()
    }


def compare(chosen: Sequence[Chosen], out: Path, other: Path) -> dict[str, Any]:
    """This evaluation less another one, score by score, where both have a benchmark.

    Numbers are compared only where all conditions agree; where not, the record says which differ.

    Returns:
        benchmark to {"differs": [conditions]} or {"scores": {score: Difference}}.
    """
    ours, theirs = read_results(out)["benchmarks"], read_results(other)["benchmarks"]
    compared: dict[str, Any] = {}
    for one in chosen:
        if one.name not in theirs:
            compared[one.name] = {"differs": ["not in the other evaluation"]}
            continue
        mine, its = ours[one.name], theirs[one.name]
        differs = [name for name in CONDITIONS if mine.get(name) != its.get(name)]
        rows = [row for row in read_lines(out / one.name / "rows.jsonl") if row.get("correct", 0) is not None]
        others = {row["id"]: row for row in read_lines(other / one.name / "rows.jsonl")}
        if not differs and others.keys() != {row["id"] for row in rows}:
            differs = ["questions"]
        if differs:
            compared[one.name] = {"differs": differs}
            continue
        first, second = one.benchmark.metrics(rows), one.benchmark.metrics([others[row["id"]] for row in rows])
        units = [row["unit"] for row in rows]
        pairs = {name: (score, second.get(name)) for name, score in first.items()}
        compared[one.name] = {
            "scores": {
                name: asdict(difference(a, b, units))
                for name, (a, b) in pairs.items()
                if isinstance(a, Metric) and isinstance(b, Metric)
            }
        }
    return compared
