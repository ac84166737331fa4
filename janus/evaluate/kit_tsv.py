"""Multiple-choice questions in VLMEvalKit's tables: MMBench, MMStar, AI2D and others.

Columns: index, question, image, A, B, C, D ..., and, where there are any, hint, answer, category, l2-category. `image`
is a picture in base64, or the index of the row that holds it: rotations of one question share their picture. An empty
field is a missing one. (The kit reads its tables with pandas, which also takes an option "None" or "NA" for missing.)
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path

from janus.evaluate import files
from janus.evaluate.benchmark import Question

_LONGEST_REFERENCE = 64
"""Characters: anything longer in the image column is a picture."""


def read_questions(path: Path, what: str) -> list[Question]:
    """All questions of a table, ids being their index. Raises ValueError naming file, line and what was expected."""
    images: dict[str, str] = {}

    def keep(row: dict[str, str], number: int) -> tuple[int, dict[str, str]]:
        images[row["index"]] = row["image"]
        return number, row

    return [_question(path, number, row, images) for number, row in files.rows(path, keep, what)]


def _question(path: Path, number: int, row: Mapping[str, str], images: Mapping[str, str]) -> Question:
    where = f"{path}:{number}"
    picture = row["image"]
    if len(picture) <= _LONGEST_REFERENCE:
        picture = images.get(picture, "")
        if len(picture) <= _LONGEST_REFERENCE:
            raise ValueError(f"{where}: image {row['image']!r}: expected base64, or the index of a row that has it")
    options = {letter: row[letter] for letter in string.ascii_uppercase if letter in row}
    answer = row.get("answer")
    if len(options) < 2 or "question" not in row:
        raise ValueError(f"{where}: expected a question and options in columns A, B ...")
    if answer is not None and answer not in options:
        raise ValueError(f"{where}: right answer {answer!r}: expected {' or '.join(options)}")
    return Question(
        id=row["index"],
        text=row["question"],
        pictures=[files.picture_from_base64(picture, f"{path.name}, index {row['index']}")],
        template="choice",
        answer=answer,
        kind="choice",
        options=options,
        hint=row.get("hint", ""),
        category=row.get("category", ""),
        facts={"l2_category": row["l2-category"]} if "l2-category" in row else {},
    )
