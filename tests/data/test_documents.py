"""Documents: captions dropped as inference does it, and rows that contradict themselves refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from janus.data.documents import document, without_caption
from janus.data.plan import Draw
from janus.data.shards import Row
from schemas.sample import Task
from tests.data.make import MADE_WITH, TOKENS, MadeSource, make_row

PAD, BOI, IMG, EOI, EOS = TOKENS.pad, TOKENS.boi, TOKENS.image, TOKENS.eoi, TOKENS.eos


def made(task: Task, number: int = 0, *, short: bool = False, drop: bool = False) -> tuple[Row, Draw]:
    raw = make_row(MadeSource("made", task, 1, words=(8, 12)), number)
    row = Row(
        path=Path("shard"),
        number=0,
        uid=bytes(2),
        input_ids=np.array(raw["input_ids"], np.int32),
        loss_mask=np.array(raw["loss_mask"]),
        short_ids=None if raw["short_ids"] is None else np.array(raw["short_ids"], np.int32),
        codes=np.array(raw["codes"] or [], np.uint16),
        pixels=[np.frombuffer(image, np.uint8) for image in raw["pixels"] or []],
    )
    length = raw["short_length"] if short else raw["length"]
    return row, Draw(task, task, row=0, epoch=0, length=length, short=short, drop=drop)


def test_generation_full_caption() -> None:
    row, draw = made("generation")
    built = document(row, draw, TOKENS, MADE_WITH)
    assert built.input_ids.tolist() == row.input_ids.tolist()
    assert built.input_ids[built.placeholders["code_positions"]].tolist() == [IMG] * 9
    assert built.input_ids[built.placeholders["code_positions"][0] - 1] == BOI
    assert built.label_positions.size == 0


def test_generation_short_caption() -> None:
    row, draw = made("generation", short=True)
    built = document(row, draw, TOKENS, MADE_WITH)
    assert row.short_ids is not None
    assert built.input_ids.tolist() == row.short_ids.tolist()
    assert len(built.input_ids) == 1 + 4 + 1 + 9 + 1 + 1


@pytest.mark.parametrize("short", [False, True])
def test_dropped_caption_is_padding_of_the_same_length(short: bool) -> None:
    kept = document(*made("generation", short=short), TOKENS, MADE_WITH).input_ids.tolist()
    dropped = document(*made("generation", short=short, drop=True), TOKENS, MADE_WITH).input_ids.tolist()
    begin = kept.index(BOI)
    assert dropped == [TOKENS.bos, *[PAD] * (begin - 1), *kept[begin:]]


def test_released_inference_drops_the_same_tokens() -> None:
    """generation_inference.py pads tokens[1:-1] of a prompt that ends with begin-of-image."""
    prompt = np.array([TOKENS.bos, 9, 8, 7, BOI], np.int32)
    official = prompt.copy()
    official[1:-1] = PAD
    whole = np.concatenate([prompt, np.full(9, IMG, np.int32), np.array([EOI, EOS], np.int32)])
    assert without_caption(whole, TOKENS)[: len(prompt)].tolist() == official.tolist()
    assert whole[1] == 9  # the mapped shard itself is untouched


def test_understanding_labels_are_the_mask() -> None:
    row, draw = made("understanding")
    built = document(row, draw, TOKENS, MADE_WITH)
    assert built.label_positions.tolist() == np.flatnonzero(row.loss_mask).tolist()
    assert built.placeholders["pixel_positions"].tolist() == [2, 3, 4, 5]


def damage(row: Row, **columns: object) -> Row:
    return replace(row, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "columns", "problem"),
    [
        ("generation", {"codes": np.arange(8, dtype=np.uint16)}, "8 codes, 9 per image"),
        ("generation", {"codes": np.arange(18, dtype=np.uint16)}, "9 placeholders, 18 codes"),
        ("generation", {"codes": np.full(9, 32, np.uint16)}, "code 32 in a codebook of 32"),
        ("generation", {"codes": np.empty(0, np.uint16)}, "0 codes, 9 per image"),
        ("understanding", {"pixels": []}, "4 placeholders, 0 images"),
        ("understanding", {"loss_mask": None}, "an image placeholder is a label"),
        ("text", {"input_ids": None}, "first token is 63, expected BOS"),
    ],
)
def test_rows_that_contradict_themselves(task: Task, columns: dict, problem: str) -> None:
    row, draw = made(task)
    if "loss_mask" in columns:
        columns = {"loss_mask": np.ones_like(row.loss_mask)}
    if "input_ids" in columns:
        columns = {"input_ids": np.full_like(row.input_ids, 63)}
    with pytest.raises(ValueError, match=f"^shard: row 0 \\(uid 0000\\): damaged row: {problem}") as error:
        document(damage(row, **columns), draw, TOKENS, MADE_WITH)
    assert "\n" not in str(error.value)


def test_text_labels_in_a_generation_row_and_on_bos() -> None:
    row, draw = made("generation")
    with pytest.raises(ValueError, match="text label in a generation row"):
        document(damage(row, loss_mask=np.ones_like(row.loss_mask)), draw, TOKENS, MADE_WITH)
    row, draw = made("text")
    with pytest.raises(ValueError, match="BOS is a label"):
        document(damage(row, loss_mask=np.ones_like(row.loss_mask)), draw, TOKENS, MADE_WITH)


@pytest.mark.parametrize("wrong", [-1, 64, 2**31 - 1])
def test_token_ids_that_are_none(wrong: int) -> None:
    row, draw = made("text")
    input_ids = row.input_ids.copy()
    input_ids[-1] = wrong
    tokens = replace(TOKENS, vocabulary=64)
    document(row, draw, tokens, MADE_WITH)
    with pytest.raises(ValueError, match=rf"damaged row: token id {wrong} in a vocabulary of 64; build this shard"):
        document(damage(row, input_ids=input_ids), draw, tokens, MADE_WITH)


def test_length_column_that_lies() -> None:
    row, draw = made("text")
    with pytest.raises(ValueError, match="its length column says 7"):
        document(row, replace(draw, length=7), TOKENS, MADE_WITH)
