"""A document: one drawn row with its chances applied and everything the model needs located (DESIGN D6, D10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from janus.data.config import TokenIds
from janus.data.plan import Draw
from janus.data.shards import Row
from schemas.manifest import Fingerprints
from schemas.sample import Task


@dataclass(frozen=True)
class Document:
    """n tokens; positions count from the document's first token (BOS, at 0)."""

    where: str
    uid: bytes
    task: Task
    input_ids: npt.NDArray[np.int32]
    """int32[n]."""
    image_positions: npt.NDArray[np.int64]
    """Placeholders, image by image: of codes in a generation document, of image features in any other."""
    label_positions: npt.NDArray[np.int64]
    """Positions of the text tokens that are predicted, each from the position before it."""
    codes: npt.NDArray[np.uint16]
    pixels: list[npt.NDArray[np.uint8]]


def document(row: Row, draw: Draw, tokens: TokenIds, made_with: Fingerprints) -> Document:
    """Apply `draw` to `row`.

    Raises ValueError with one line naming shard, row and uid where the row contradicts itself or the snapshot.
    """
    short = draw.short and row.short_ids is not None
    input_ids = row.short_ids if short and row.short_ids is not None else row.input_ids
    _require(row, len(input_ids) == draw.length, f"{len(input_ids)} tokens, its length column says {draw.length}")
    _require(row, input_ids[0] == tokens.bos, f"first token is {input_ids[0]}, expected BOS ({tokens.bos})")
    _require(row, int(input_ids.min()) >= 0, "negative token id")
    _require(row, len(row.loss_mask) == len(row.input_ids), "loss mask and tokens differ in length")
    placeholders = (input_ids == tokens.image).nonzero()[0]

    if draw.task == "generation":
        num_images, odd = divmod(len(row.codes), made_with.generation_tokens)
        _require(row, num_images > 0 and not odd, f"{len(row.codes)} codes, {made_with.generation_tokens} per image")
        _require(row, len(placeholders) == len(row.codes), f"{len(placeholders)} placeholders, {len(row.codes)} codes")
        _require(row, int(row.codes.max()) < made_with.codebook_size, "code outside the codebook")
        _require(row, not (row.loss_mask & (row.input_ids != tokens.image)).any(), "text label in a generation row")
        if draw.drop:
            input_ids = without_caption(input_ids, tokens)
        labels = np.empty(0, np.int64)
    else:
        expected = len(row.pixels) * made_with.understanding_tokens
        _require(row, len(placeholders) == expected, f"{len(placeholders)} placeholders, {len(row.pixels)} images")
        _require(row, not row.loss_mask[placeholders].any(), "an image placeholder is a label")
        labels = row.loss_mask.nonzero()[0]
        _require(row, labels.size == 0 or labels[0] > 0, "BOS is a label, which nothing predicts")
    return Document(row.where, row.uid, draw.task, input_ids, placeholders, labels, row.codes, row.pixels)


def without_caption(input_ids: npt.NDArray[np.int32], tokens: TokenIds) -> npt.NDArray[np.int32]:
    """The null condition of classifier-free guidance: all between BOS and the first begin-of-image becomes padding.

    As released inference does it (generation_inference.py: `tokens[1:-1] = pad`), template included.
    """
    begin = int(np.argmax(input_ids == tokens.boi))
    dropped = input_ids.copy()
    dropped[1:begin] = tokens.pad
    return dropped


def _require(row: Row, holds: bool | np.bool_, problem: str) -> None:
    if not holds:
        raise ValueError(f"{row.where}: damaged row: {problem}; build this shard again")
