"""What a result says of a benchmark: scores with intervals, and everything that they depend on (design D19)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from janus.evaluate import draw
from janus.evaluate.benchmark import Benchmark, Drawing, Question, Questions
from janus.evaluate.chosen import Chosen, Settings, Subject
from janus.evaluate.metrics import Metrics, estimate

UNREADABLE = 0.5
"""Share of unreadable answers above which a result carries a warning."""


def make_record(
    subject: Subject | None, one: Chosen, rows: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[str, Any]:
    """What results.json says about a benchmark: scores, and everything that a number depends on."""
    benchmark = one.benchmark
    scores = scored(benchmark, rows)
    record: dict[str, Any] = {
        "title": benchmark.title,
        "split": one.split,
        "items": len(one.items),
        "whole": len(one.items) == one.size,
        "model": subject and subject.fingerprint,
        "model_has_sums": subject and subject.has_sums,
        "dtype": subject and subject.dtype,
        "main": benchmark.main if benchmark.main in scores else None,
        "scores": {name: {"value": s.value, "low": s.low, "high": s.high} for name, s in scores.items()},
        "notes": [],
    }
    notes: list[str] = record["notes"]
    if not record["whole"]:
        notes.append(f"Not the benchmark: {len(one.items)} of {one.size} items.")
    if isinstance(benchmark, Questions):
        used = sorted({question.template for question in one.items if isinstance(question, Question)})
        templates = settings.prompts
        record |= {
            "protocol": benchmark.protocols[settings.protocol],
            "prompts": {name: templates.templates[name] for name in used},
            "prompts_from": {name: templates.origin[name] for name in used},
            "sampling": "greedy",
            "max_new_tokens": templates.max_new_tokens,
        }
        notes += _reading_notes(rows)
    elif isinstance(benchmark, Drawing):
        record |= {"protocol": benchmark.judged_by()}
        if benchmark.pictures is None:
            record |= {"sampling": draw.sampling_facts(settings.sampling, benchmark.images_per_prompt)}
        else:
            record |= {"sampling": None, "model": None, "model_has_sums": None, "dtype": None}
            notes.append(f"Pictures drawn elsewhere: {benchmark.pictures}.")
        asked, unread = (sum(row.get(name, 0) for row in rows) for name in ("asked", "unreadable"))
        if unread > UNREADABLE * asked:
            notes.append(f"WARNING: {unread} of {asked} answers of the judge could not be read as yes or no.")
    return record


def scored(benchmark: Benchmark, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores with intervals of the rows whose right answer is known."""
    known = [row for row in rows if row.get("correct", 0) is not None]
    metrics: Metrics = benchmark.metrics(known) if known else {}
    return estimate(metrics, [row["unit"] for row in known])


def _reading_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of the scores must know about the answers."""
    notes = []
    if all(row["correct"] is None for row in rows):
        notes.append("The right answers of this split are not published: no scores, only a file to submit.")
    unreadable = [row for row in rows if row["read"] is None]
    if len(unreadable) > UNREADABLE * len(rows):
        said = json.dumps(unreadable[0]["said"][:80], ensure_ascii=False)
        notes.append(
            f"WARNING: {len(unreadable)} of {len(rows)} answers could not be read, the first is {said}. Does the model "
            "know this prompt template? Give its own with --prompt, or in its config.json (docs/evaluation.md)."
        )
    return notes
