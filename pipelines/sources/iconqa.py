"""IconQA: a folder for each question, with data.json and the picture it is about.

    train/choose_txt/<n>/{data.json, image.png}     {"question": "...", "choices": ["...", ...], "answer": 1}
    train/fill_in_blank/<n>/{data.json, image.png}  {"question": "...", "answer": "5"}

Choices are lettered, and the answer is the letter with its choice. Questions whose choices are pictures (choose_img)
name them as files; they are skipped as `other_task`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

from pipelines.reading.conversations import with_marks
from pipelines.reading.errors import RowError, SkipRow
from pipelines.reading.gate import Gate
from pipelines.reading.options import FileOptions, options_of
from pipelines.reading.records import Record, as_text, short
from pipelines.reading.refs import local_image
from pipelines.reading.rows import Item, Table, samples
from pipelines.reading.tables import those_that_hold
from schemas.reasons import Skip
from schemas.sample import Message, Sample
from schemas.spec import Source

TASKS = ("understanding",)


def read(source: Source) -> Iterator[Item]:
    """One sample per question, folders by name."""
    table = Table(source, options_of(source, FileOptions), suffixes=("data.json",))

    def sample(row: Record) -> Sample:
        folder = row.key.rpartition("/")[0]
        image = local_image(table.gate, f"{folder}/image.png", row.where)
        return Sample(task="understanding", key=row.key, messages=_turns(row), images=(image,))

    found = (_row(table.gate, file) for file in table.files())
    yield from samples(source, those_that_hold(found, table.condition), sample)


def _row(gate: Gate, file: Path) -> Record:
    where, key = str(file), gate.relative(file)
    try:
        value = json.loads(gate.read_text(file))
    except RowError as error:
        return Record(where, key, {}, problem=error)
    except (ValueError, RecursionError) as error:
        return Record(where, key, {}, problem=RowError(f"{where}: not JSON ({error})"))
    problem = None if isinstance(value, dict) else RowError(f"{where}: expected a JSON object, found {short(value)}")
    return Record(where, key, value if problem is None else {}, problem=problem)


def _turns(row: Record) -> tuple[Message, ...]:
    question, answer = row.text("question"), row.get("answer")
    choices = row.data.get("choices")
    if choices is not None:
        texts = [as_text(choice, f"{row.where}: choices") for choice in row.items("choices")]
        if not isinstance(answer, int) or not 0 <= answer < min(len(texts), len(ascii_uppercase)):
            raise RowError(f"{row.where}: answer: expected the number of a choice, found {short(answer)}")
        if all(text.lower().endswith((".png", ".jpg")) for text in texts):
            raise SkipRow(Skip.OTHER_TASK)
        lettered = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, texts, strict=False)]
        question, answer = "\n".join([question, *lettered]), lettered[answer]
    text = str(answer) if isinstance(answer, int | float) else as_text(answer, f"{row.where}: answer")
    return with_marks([Message(role="user", text=question), Message(role="assistant", text=text)], 1)
