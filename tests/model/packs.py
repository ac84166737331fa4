"""Documents of the three kinds and how they are laid into packs, for tests of the network.

Written independently of `janus.data`: a test of the network must not lean on the loader being right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from janus.packed import TASK_IDS, PackedBatch
from tests.model.toy import BOI, BOS, CODES, EOI, EOS, GRID, IMG, PAD, SIDE

N = GRID**2
"""Image tokens and codes of one image."""


@dataclass
class Document:
    """One document; positions are indices into `ids`."""

    task: str
    ids: list[int]
    pixels: list[torch.Tensor] = field(default_factory=list)
    pixel_positions: list[int] = field(default_factory=list)
    codes: list[torch.Tensor] = field(default_factory=list)
    code_positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """Positions whose hidden state predicts the next token."""


def _words(count: int, seed: int) -> list[int]:
    return torch.randint(0, 200, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def understanding(count: int, seed: int) -> Document:
    """BOS [image] words EOS, loss on words and EOS."""
    pixels = torch.randint(0, 256, (SIDE, SIDE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    ids = [BOS, BOI, *[IMG] * N, EOI, *_words(count, seed), EOS]
    first = N + 2  # EOI predicts the first word
    return Document(
        "understanding", ids, [pixels], [2 + k for k in range(N)], labels=[first + k for k in range(count + 1)]
    )


def text(count: int, seed: int) -> Document:
    """BOS words EOS, loss on all but BOS."""
    return Document("text", [BOS, *_words(count, seed), EOS], labels=list(range(count + 1)))


def generation(count: int, seed: int) -> Document:
    """BOS words [image] EOS, loss on the codes."""
    codes = torch.randint(0, CODES, (N,), generator=torch.Generator().manual_seed(seed))
    ids = [BOS, *_words(count, seed), BOI, *[IMG] * N, EOI, EOS]
    return Document("generation", ids, codes=[codes], code_positions=[count + 2 + k for k in range(N)])


def pack(rows: list[list[Document]], length: int) -> PackedBatch:
    """Lay documents into packs of `length` tokens."""
    ids: list[int] = []
    positions: list[int] = []
    lengths: list[int] = []
    pixels, pixel_positions, codes, code_positions = [], [], [], []
    label_positions, labels, label_tasks, tasks = [], [], [], []
    for number, row in enumerate(rows):
        for document in row:
            start = len(ids)
            pixels += document.pixels
            codes += document.codes
            pixel_positions += [start + k for k in document.pixel_positions]
            code_positions += [start + k for k in document.code_positions]
            label_positions += [start + k for k in document.labels]
            labels += [document.ids[k + 1] for k in document.labels]
            label_tasks += [TASK_IDS[document.task]] * len(document.labels)
            tasks.append(document.task)
            ids += document.ids
            positions += range(len(document.ids))
            lengths.append(len(document.ids))
        tail = (number + 1) * length - len(ids)
        assert tail >= 0, "the documents do not fit"
        if tail:
            ids += [PAD] * tail
            positions += range(tail)
            lengths.append(tail)
    numbers = [torch.tensor(x, dtype=torch.int64) for x in (pixel_positions, code_positions, label_positions)]
    return PackedBatch(
        input_ids=torch.tensor(ids).view(len(rows), length),
        position_ids=torch.tensor(positions).view(len(rows), length),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        pixels=torch.stack(pixels) if pixels else torch.zeros(0, SIDE, SIDE, 3, dtype=torch.uint8),
        pixel_positions=numbers[0],
        codes=torch.stack(codes) if codes else torch.zeros(0, N, dtype=torch.int64),
        code_positions=numbers[1],
        text_label_positions=numbers[2],
        text_labels=torch.tensor(labels, dtype=torch.int64),
        text_label_tasks=torch.tensor(label_tasks, dtype=torch.int64),
        uids=[bytes([k]) * 16 for k in range(len(tasks))],
        tasks=tasks,
    )


def alone(document: Document) -> PackedBatch:
    """A pack that holds this document and nothing else."""
    return pack([[document]], len(document.ids))
