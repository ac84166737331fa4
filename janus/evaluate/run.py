"""An evaluation: every benchmark asked or drawn, marked, scored and written down.

OUT/results.json              all scores with intervals, and under which conditions (design D19)
OUT/report.html               the same to look at (janus.evaluate.report)
OUT/<benchmark>/rows.jsonl    every question or picture, what came of it, and the verdict
OUT/<benchmark>/pictures.png  the drawn pictures, framed by verdict
OUT/pictures/<set>/           the drawn pictures (janus.evaluate.draw)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from janus.evaluate import ask, draw, store
from janus.evaluate.benchmark import Drawing, Drawn, Prompt, Question, Questions
from janus.evaluate.chosen import Chosen, Settings, Subject
from janus.evaluate.extract import Protocol
from janus.evaluate.record import make_record
from schemas.digest import digest
from schemas.files import atomic_file

if TYPE_CHECKING:
    from janus.train.world import World

RIGHT = 0.5
"""Least `correct` of what is shown as right."""
SHEET_SIDE = 96
"""Longest side of a picture on the sheet of all, pixels."""
Progress = Callable[[str, int, int], None]
"""Called with (benchmark, done, total)."""


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
                rows = judge(one, out, settings, partial(on_progress, f"{one.name}, judging"))
                store.write_lines(out / one.name / "rows.jsonl", rows)
                records[one.name] = make_record(subject, one, rows, settings)
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
    pictures = draw.drawn(folder, prompts, benchmark.images_per_prompt)
    draw.draw(
        subject.model,
        subject.processor,
        pictures,
        [draw.seed_of(benchmark.prompt_set, settings.sampling.seed, index) for index in range(len(pictures))],
        settings.sampling,
        batch_size=settings.batch_size,
        world=world,
        on_progress=on_progress,
    )


def judge(
    one: Chosen, out: Path, settings: Settings, on_progress: Callable[[int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
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
    pictures = draw.located(benchmark, prompts, out)
    if benchmark.pictures is None:
        benchmark.export(pictures, draw.folder_of(benchmark, out))
    found = benchmark.rows(pictures, settings.data, settings.device, on_progress)
    rows = [{"unit": row["id"].partition("/")[0], **row} for row in found]
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
    """All pictures on one sheet, where each has a row of its own."""
    from janus.report.contact_sheet import contact_sheet

    if [row["id"] for row in rows] == [one.id for one in pictures]:
        small = [one.small(SHEET_SIDE) for one in pictures]
        sheet = contact_sheet(small, verdicts=[row["correct"] >= RIGHT for row in rows])
        with atomic_file(path) as file:
            sheet.save(file, "PNG")
