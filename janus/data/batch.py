"""Documents to tensors: one micro-batch of packs, images decoded (janus.packed)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch

from janus.data.config import TokenIds
from janus.data.documents import Document, RowDocument
from janus.data.shards import Row
from janus.packed import TASK_IDS, PackedBatch
from schemas.manifest import Fingerprints

DECODE_TOGETHER = 8
"""Images per task of a decoding thread: one by one, handing them over costs more than copying a raw one."""


def assemble(
    packs: Sequence[Sequence[RowDocument]],
    seq_len: int,
    tokens: TokenIds,
    made_with: Fingerprints,
    decoders: Executor,
) -> PackedBatch:
    """A batch of documents of a corpus, with their codes and images. Arguments and layout as of `lay_out`.

    Raises ValueError for an image that cannot be decoded.
    """
    documents = list(chain.from_iterable(packs))
    codes = [document.row.codes for document in documents if document.task == "generation"]
    return PackedBatch(
        **lay_out(packs, seq_len, tokens.pad, ("pixel_positions", "code_positions")),
        pixels=torch.from_numpy(decode(documents, made_with, decoders)),
        codes=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *codes])).view(-1, made_with.generation_tokens),
    )


def lay_out(packs: Sequence[Sequence[Document]], seq_len: int, pad: int, placeholders: Iterable[str]) -> dict[str, Any]:
    """Lay each list of documents end to end in a sequence of `seq_len` tokens, the tail filled with padding.

    Args:
        packs: an empty list gives a sequence of padding.
        pad: id of the padding token.
        placeholders: the fields of the batch for positions that take features, one or more per modality.

    Returns:
        The fields of a PackedBatch, or of a class that adds a modality, but for the values of modalities.
    """
    input_ids = np.full((len(packs), seq_len), pad, np.int64)
    position_ids = np.empty((len(packs), seq_len), np.int64)
    count = np.arange(seq_len)
    lengths: list[int] = []
    padding: list[int] = []
    places = {field: _Column() for field in placeholders}
    label_positions, labels, label_tasks = _Column(), _Column(), _Column()
    for number, pack in enumerate(packs):
        start = 0
        for document in pack:
            length = len(document.input_ids)
            input_ids[number, start : start + length] = document.input_ids
            position_ids[number, start : start + length] = count[:length]
            lengths.append(length)
            flat = number * seq_len + start
            for field, positions in document.placeholders.items():
                places[field].append(positions + flat)
            label_positions.append(document.label_positions - 1 + flat)
            labels.append(document.input_ids[document.label_positions])
            label_tasks.append(np.full(len(document.label_positions), TASK_IDS[document.task]))
            start += length
        if start < seq_len:
            position_ids[number, start:] = count[: seq_len - start]
            lengths.append(seq_len - start)
            padding.append(seq_len - start)

    documents = list(chain.from_iterable(packs))
    return {
        "input_ids": torch.from_numpy(input_ids),
        "position_ids": torch.from_numpy(position_ids),
        "lengths": torch.tensor(lengths, dtype=torch.int32),
        **{field: column.tensor() for field, column in places.items()},
        "text_label_positions": label_positions.tensor(),
        "text_labels": labels.tensor(),
        "text_label_tasks": label_tasks.tensor(),
        "uids": [document.uid for document in documents],
        "tasks": [document.task for document in documents],
        "padding": padding,
    }


class _Column(list[npt.NDArray]):
    """Pieces of an int64 tensor."""

    def tensor(self) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *self]))


def decode(documents: Sequence[RowDocument], made_with: Fingerprints, decoders: Executor) -> npt.NDArray[np.uint8]:
    """uint8[U, S, S, 3]: the understanding images of `documents` in order, decoded side by side."""
    images = [(document.row, number) for document in documents for number in range(len(document.row.pixels))]
    side = made_with.image_size
    pixels = np.empty((len(images), side, side, 3), np.uint8)
    decode_one = _decode_jpeg if made_with.pixels == "jpeg" else _copy_raw

    def decode_some(start: int) -> None:
        for place in range(start, min(start + DECODE_TOGETHER, len(images))):
            decode_one(*images[place], pixels[place])

    for _ in decoders.map(decode_some, range(0, len(images), DECODE_TOGETHER)):
        pass
    return pixels


def _decode_jpeg(row: Row, number: int, out: npt.NDArray[np.uint8]) -> None:
    data = row.pixels[number]
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (height, width) == out.shape[:2]:
            simplejpeg.decode_jpeg(data, "RGB", buffer=out)
    except ValueError as error:
        raise row.damaged(f"image {number}: {error}") from None
    if (height, width) != out.shape[:2]:
        raise row.damaged(f"image {number}: {width}x{height} pixels, expected {out.shape[1]}x{out.shape[0]}")


def _copy_raw(row: Row, number: int, out: npt.NDArray[np.uint8]) -> None:
    data = row.pixels[number]
    if data.size != out.size:
        raise row.damaged(f"image {number}: {data.size} bytes, expected {out.size}")
    out[:] = data.reshape(out.shape)
