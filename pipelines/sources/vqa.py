"""Questions about images with short answers, as question sets publish them: a table of questions beside the images.

    VQAv2      {"questions": [{"image_id": 9, "question": "...", "question_id": 1}, ...]} and the answers apart (a join)
    GQA        {"07333408": {"imageId": "2375429", "question": "...", "answer": "yes"}, ...}
    ScreenQA   [{"image_id": 3, "question": "...", "ground_truth": [{"full_answer": "..."}, ...]}, ...]
    KVQA       {"21076": {"imgPath": "...", "Questions": ["...", ...], "Answers": ["...", ...]}, ...}

A row with lists of questions and answers is one conversation of several turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.reading.captions import CaptionOptions as JoinOptions
from pipelines.reading.captions import CaptionReader
from pipelines.reading.conversations import with_marks
from pipelines.reading.errors import RowError
from pipelines.reading.join import Join
from pipelines.reading.options import ImageOptions, options_of
from pipelines.reading.records import Record, as_text
from pipelines.reading.refs import Images
from pipelines.reading.rows import Item, Table, samples
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)


class VqaOptions(ImageOptions):
    """Options of `vqa`: names of fields; "ground_truth.0.full_answer" is a field in a list in a field."""

    question: str = "question"
    answer: str = "answer"
    image: str = "image"
    image_name: str = "{}"
    """How the image's file is called: {} is the field's value, {:012d} the same with twelve digits."""
    prompt: str = "{}"
    """What is asked: {} is the question."""
    join: Join | None = None
    """Answers from another file, by key. Questions without one there are skipped (`no_caption`)."""


def read(source: Source) -> Iterator[Item]:
    """One sample per row."""
    options = options_of(source, VqaOptions)
    table = Table(source, options)
    images = Images(source, table.gate, options.images)
    joined = CaptionReader(source, JoinOptions(join=options.join), table.gate) if options.join else None

    def sample(row: Record) -> Sample:
        answer = joined.of(row) if joined else row.get(options.answer)
        questions, answers = _texts(row.get(options.question), row.where), _texts(answer, row.where)
        if len(questions) != len(answers) or not questions:
            raise RowError(f"{row.where}: {len(questions)} questions and {len(answers)} answers")
        turns: list[Message] = []
        for question, text in zip(questions, answers, strict=True):
            turns.append(Message(role="user", text=options.prompt.replace("{}", question)))
            turns.append(Message(role="assistant", text=text))
        image = images.at(_name(options.image_name, row.get(options.image), row.where), row.where)
        return Sample(task="understanding", key=row.key, messages=with_marks(turns, 1), images=(image,))

    yield from samples(source, table.rows(), sample)


def _texts(value: Any, where: str) -> list[str]:
    """A text, or several; numbers, which some sets have for answers, as they are written."""
    values = value if isinstance(value, list) else [value]
    return [str(v) if isinstance(v, int | float) else as_text(v, f"{where}: question or answer") for v in values]


def _name(pattern: str, value: Any, where: str) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise RowError(f"{where}: image: expected a name or a number, found {value!r:.60}")
    try:
        return pattern.format(value)
    except (ValueError, IndexError, KeyError) as error:
        raise RowError(f"{where}: image: {value!r:.60} does not fit image_name = {pattern!r} ({error})") from None
