"""An evaluation: every benchmark asked or drawn, marked, scored and written down.

OUT/results.json              all scores with intervals, and under which conditions (design D19)
OUT/report.html               the same to look at (janus.evaluate.report)
OUT/<benchmark>/rows.jsonl    every question or picture, what came of it, and the verdict
OUT/<benchmark>/pictures.png  the drawn pictures, framed by verdict
OUT/pictures/<set>/           the drawn pictures (janus.evaluate.draw)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from janus.evaluate import ask, draw, store
from janus.evaluate.benchmark import BENCHMARKS, Benchmark, Drawing, Drawn, Prompt, Question, Questions
from janus.evaluate.draw import Sampling
from janus.evaluate.extract import Protocol
from janus.evaluate.metrics import Metrics, estimate
from janus.evaluate.prompts import PromptTemplates
from schemas.digest import digest
from schemas.files import atomic_file

if TYPE_CHECKING:
    from janus.model.network import Janus
    from janus.model.processor import Processor
    from janus.train.world import World

UNREADABLE = 0.5
"""Share of unreadable answers above which a result carries a warning."""
SHEET_SIDE = 96
"""Longest side of a picture on the sheet of all, pixels."""
Progress = Callable[[str, int, int], None]
"""Called with (benchmark, done, total)."""


@dataclass(frozen=True)
class Chosen:
    """A benchmark with what it asks or draws."""

    name: str
    benchmark: Benchmark
    items: Sequence[Question] | Sequence[Prompt]
    split: str
    size: int
    """Items without `limit`: fewer are not the benchmark."""


@dataclass(frozen=True)
class Settings:
    """How all benchmarks of an evaluation are run."""

    prompts: PromptTemplates
    protocol: Protocol = "vlmevalkit"
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 32
    device: str = "cpu"


@dataclass(frozen=True)
class Subject:
    """The model under evaluation."""

    model: Janus
    processor: Processor
    fingerprint: str

    @property
    def dtype(self) -> str:
        """Of the weights that answer: "bfloat16"."""
        return str(self.model.lm_head.weight.dtype).removeprefix("torch.")


def choose(benchmarks: Mapping[str, Benchmark], data: Path, limit: int | None = None) -> list[Chosen]:
    """Read the files of all benchmarks, so that a wrong one is told before a model is loaded.

    Args:
        benchmarks: name to benchmark with its options.
        data: folder of their usual places.
        limit: take only the first so many questions, or prompts of each category.

    Raises:
        ValueError, FileNotFoundError: with one line that begins with the benchmark.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: expected 1 or more")
    chosen = []
    for name, benchmark in benchmarks.items():
        try:
            if isinstance(benchmark, Questions):
                questions = benchmark.read(data)
                _check(questions)
                chosen.append(Chosen(name, benchmark, questions[:limit], benchmark.split(data), len(questions)))
            elif isinstance(benchmark, Drawing):
                prompts = benchmark.prompts(data)
                chosen.append(Chosen(name, benchmark, _first(prompts, limit), benchmark.split(data), len(prompts)))
            else:
                raise TypeError(f"benchmark {name}: {BENCHMARKS.load(name).__name__}.Benchmark is of neither kind")
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{name}: {error}") from None
    return chosen


def _check(questions: Sequence[Question]) -> None:
    """Raise ValueError for what a benchmark's own reader let through."""
    if not questions:
        raise ValueError("no questions")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"two questions have the id {question.id}; ids must be unique")
        seen.add(question.id)


def _first(prompts: list[Prompt], limit: int | None) -> list[Prompt]:
    if limit is None:
        return prompts
    count: dict[str, int] = {}
    kept = []
    for prompt in prompts:
        count[prompt.category] = count.get(prompt.category, 0) + 1
        if count[prompt.category] <= limit:
            kept.append(prompt)
    return kept


def needs_model(chosen: Sequence[Chosen]) -> bool:
    """Whether anything is asked or drawn: pictures drawn elsewhere are judged without a model."""
    return any(not isinstance(one.benchmark, Drawing) or one.benchmark.pictures is None for one in chosen)


def evaluate(
    subject: Subject | None,
    chosen: Sequence[Chosen],
    out: Path,
    settings: Settings,
    world: World,
    on_progress: Progress = lambda *_: None,
) -> dict[str, dict[str, Any]]:
    """Run benchmarks; returns a record of each, on the first process (others: nothing).

    Args:
        subject: the model; None is enough where `needs_model` says so.

    Raises:
        ValueError, FileNotFoundError: with one line, for what a user can mend.
    """
    records = {}
    for one in chosen:
        show = partial(on_progress, one.name)
        with world.agreed():  # no process goes on before all are done
            if isinstance(one.benchmark, Questions):
                _ask(subject, one, out, settings, world, show)
            elif isinstance(one.benchmark, Drawing) and one.benchmark.pictures is None:
                _draw(subject, one, one.benchmark, out, settings, world, show)
        with world.agreed():
            if world.is_main:
                rows = judge(one, out, settings)
                store.write_lines(out / one.name / "rows.jsonl", rows)
                records[one.name] = _record(subject, one, rows, settings)
                one.benchmark.submission(rows, out / one.name)
    return records


def _ask(
    subject: Subject | None,
    one: Chosen,
    out: Path,
    settings: Settings,
    world: World,
    on_progress: Callable[[int, int], None],
) -> None:
    """Ask this process's share of the questions."""
    assert subject is not None, "questions need a model"
    questions: Sequence[Question] = one.items  # type: ignore[assignment]
    asked = [
        [question.id, [picture.name for picture in question.pictures]]
        + [message.text for message in ask.conversation(question, settings.prompts)]
        for question in questions
    ]
    identity = {
        "questions": digest(asked),
        "model": subject.fingerprint,
        "dtype": subject.dtype,
        "max_new_tokens": settings.prompts.max_new_tokens,
        "batch_size": settings.batch_size,
    }
    answers = store.AnswerStore(out / one.name, identity, world.rank)
    ask.ask(
        subject.model,
        subject.processor,
        questions,
        settings.prompts,
        answers,
        batch_size=settings.batch_size,
        world=world,
        on_progress=on_progress,
    )


def _draw(
    subject: Subject | None,
    one: Chosen,
    benchmark: Drawing,
    out: Path,
    settings: Settings,
    world: World,
    on_progress: Callable[[int, int], None],
) -> None:
    """Draw this process's share of the pictures."""
    assert subject is not None, "drawing needs a model"
    prompts: Sequence[Prompt] = one.items  # type: ignore[assignment]
    identity = {
        "prompts": digest([prompt.text for prompt in prompts]),
        "model": subject.fingerprint,
        "dtype": subject.dtype,
        "sampling": draw.sampling_facts(settings.sampling, benchmark.images_per_prompt),
        "batch_size": settings.batch_size,
    }
    folder = draw.folder_of(benchmark, out)
    store.claim(folder, identity)
    draw.draw(
        subject.model,
        subject.processor,
        benchmark.prompt_set,
        draw.drawn(folder, prompts, benchmark.images_per_prompt),
        settings.sampling,
        batch_size=settings.batch_size,
        world=world,
        on_progress=on_progress,
    )


def judge(one: Chosen, out: Path, settings: Settings) -> list[dict[str, Any]]:
    """The rows of a benchmark, from the answers or pictures that are stored; needs no model."""
    benchmark = one.benchmark
    if isinstance(benchmark, Questions):
        said = store.read_answers(out / one.name)
        return [
            _marked(benchmark, question, said[question.id], settings.protocol)
            for question in one.items
            if isinstance(question, Question)
        ]
    assert isinstance(benchmark, Drawing)
    prompts: Sequence[Prompt] = one.items  # type: ignore[assignment]
    pictures = draw.drawn(draw.folder_of(benchmark, out), prompts, benchmark.images_per_prompt)
    rows = [{"unit": row["id"].partition("/")[0], **row} for row in benchmark.rows(pictures, settings.device)]
    _sheet(pictures, rows, out / one.name / "pictures.png")
    return rows


def _marked(benchmark: Questions, question: Question, said: str, protocol: Protocol) -> dict[str, Any]:
    return {
        "id": question.id,
        "unit": question.unit or question.id,
        "category": question.category,
        "pictures": [picture.name for picture in question.pictures],
        "question": question.text,
        "options": dict(question.options),
        "answer": question.answer,
        "said": said,
        **benchmark.mark(question, said, protocol),
        **question.facts,
    }


def _sheet(pictures: Sequence[Drawn], rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """All pictures on one sheet, where there is a verdict for each."""
    from janus.report.contact_sheet import contact_sheet

    if [row["id"] for row in rows] == [one.id for one in pictures]:
        small = [one.small(SHEET_SIDE) for one in pictures]
        sheet = contact_sheet(small, verdicts=[bool(row["correct"]) for row in rows])
        with atomic_file(path) as file:
            sheet.save(file, "PNG")


def _record(
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
        "dtype": subject and subject.dtype,
        "main": benchmark.main if benchmark.main in scores else None,
        "scores": {name: {"value": s.value, "low": s.low, "high": s.high} for name, s in scores.items()},
        "notes": [],
    }
    notes: list[str] = record["notes"]
    if not record["whole"]:
        notes.append(f"Not the benchmark: {len(one.items)} of {one.size} items (--limit).")
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
        record |= {"protocol": benchmark.protocol}
        if benchmark.pictures is None:
            record |= {"sampling": draw.sampling_facts(settings.sampling, benchmark.images_per_prompt)}
        else:
            record |= {"sampling": None, "model": None, "dtype": None}
            notes.append(f"Pictures drawn elsewhere: {benchmark.pictures}.")
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
