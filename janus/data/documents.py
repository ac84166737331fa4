"""A document: one drawn row with its augmentation applied and everything the model needs located (design D6, D10)."""

from __future__ import annotations

from collections.abc import Mapping
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
    """n tokens, of whatever modality; positions count from the document's first token (BOS, at 0)."""

    uid: bytes
    task: Task
    input_ids: npt.NDArray[np.int32]
    """int32[n]."""
    placeholders: Mapping[str, npt.NDArray[np.int64]]
    """Positions that take features, value by value, under the batch's field for them (`InputPath.positions`):
    "code_positions" in a generation document, "pixel_positions" in any other."""
    label_positions: npt.NDArray[np.int64]
    """Positions of the text tokens that are predicted, each from the position before it."""


@dataclass(frozen=True)
class RowDocument(Document):
    """A document of a corpus."""

    row: Row


def document(row: Row, draw: Draw, tokens: TokenIds, made_with: Fingerprints) -> RowDocument:
    """Apply `draw` to `row`.

    Raises ValueError with one line naming shard, row and uid where the row contradicts itself or the snapshot.
    """
    input_ids = row.short_ids if draw.short and row.short_ids is not None else row.input_ids
    if len(input_ids) != draw.length:
        raise row.damaged(f"{len(input_ids)} tokens, its length column says {draw.length}")
    if input_ids[0] != tokens.bos:
        raise row.damaged(f"first token is {input_ids[0]}, expected BOS ({tokens.bos})")
    if input_ids.view(np.uint32).max() >= tokens.vocabulary:  # negative ids are the largest of all
        wrong = input_ids[(input_ids < 0) | (input_ids >= tokens.vocabulary)][0]
        raise row.damaged(f"token id {wrong} in a vocabulary of {tokens.vocabulary}")
    if len(row.loss_mask) != len(row.input_ids):
        raise row.damaged(f"loss mask of {len(row.loss_mask)} for {len(row.input_ids)} tokens")
    placeholders = (input_ids == tokens.image).nonzero()[0]
    if draw.task == "generation":
        _check_generation(row, placeholders, tokens, made_with)
        labels = np.empty(0, np.int64)
        if draw.drop:
            input_ids = without_caption(input_ids, tokens)
    else:
        labels = row.loss_mask.nonzero()[0]
        _check_understanding(row, placeholders, made_with)
    field = "code_positions" if draw.task == "generation" else "pixel_positions"
    return RowDocument(row.uid, draw.task, input_ids, {field: placeholders}, labels, row)


def _check_generation(row: Row, placeholders: npt.NDArray[np.int64], tokens: TokenIds, made_with: Fingerprints) -> None:
    if len(row.codes) == 0 or len(row.codes) % made_with.generation_tokens:
        raise row.damaged(f"{len(row.codes)} codes, {made_with.generation_tokens} per image")
    if len(placeholders) != len(row.codes):
        raise row.damaged(f"{len(placeholders)} placeholders, {len(row.codes)} codes")
    if row.codes.max() >= made_with.codebook_size:
        raise row.damaged(f"code {row.codes.max()} in a codebook of {made_with.codebook_size}")
    if (row.loss_mask & (row.input_ids != tokens.image)).any():
        raise row.damaged("text label in a generation row")


def _check_understanding(row: Row, placeholders: npt.NDArray[np.int64], made_with: Fingerprints) -> None:
    if len(placeholders) != len(row.pixels) * made_with.understanding_tokens:
        raise row.damaged(f"{len(placeholders)} placeholders, {len(row.pixels)} images")
    if row.loss_mask[placeholders].any():
        raise row.damaged("an image placeholder is a label")
    if row.loss_mask[0]:
        raise row.damaged("BOS is a label, which nothing predicts")


def without_caption(input_ids: npt.NDArray[np.int32], tokens: TokenIds) -> npt.NDArray[np.int32]:
    """The null condition of classifier-free guidance: all between BOS and the first begin-of-image becomes padding.

    As released inference does it (generation_inference.py: `tokens[1:-1] = pad`), template included.
    """
    begin = int(np.argmax(input_ids == tokens.boi))
    dropped = input_ids.copy()
    dropped[1:begin] = tokens.pad
    return dropped
