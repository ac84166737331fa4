"""Pre-trains the small Llama on text alone, inside the Janus it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch

from janus.base import data
from janus.base.optimize import Optimizer
from janus.data.pack import pack_stream
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.model.templates import Encoded, encode_sample
from janus.packed import TASK_IDS, PackedBatch
from schemas.sample import Message

STEPS = 100
SEQUENCES, SEQ_LEN = 8, 512
"""Packs per step and tokens per pack."""
_MEAN_LENGTH = 54
"""Tokens of a text, roughly: it decides how many are written."""


def fit_llm(model: Janus, processor: Processor, seed: int, tick: Callable[[float], None]) -> None:
    """Train the LLM of `model` and its text head on documents and conversations, in place.

    `tick(loss)` is called after every step.
    """
    packs = _packs(processor, seed)
    trained = torch.nn.ModuleDict({"llm": model.model.language_model, "text_head": model.lm_head})
    model.requires_grad_(False)
    trained.requires_grad_(True)
    optimizer = Optimizer(trained, muon=0.01, adamw=3e-3, steps=STEPS, not_hidden=("text_head",))
    for step in range(STEPS):
        losses = model.packed_loss(_batch(packs[step * SEQUENCES : (step + 1) * SEQUENCES], processor))
        loss = losses.sums.sum() / losses.counts.sum()
        optimizer.step(loss)
        tick(float(loss.detach()))
    model.requires_grad_(True)


def _packs(processor: Processor, seed: int) -> list[list[Encoded]]:
    """Texts enough for all steps, four documents to a conversation."""
    texts = STEPS * SEQUENCES * SEQ_LEN // _MEAN_LENGTH
    samples = [("plain", [Message(role="document", text=text)]) for text in data.documents(seed, texts * 4 // 5)]
    for turns in data.conversations(seed, texts // 5):
        pairs = ((Message(role="user", text=q.text), Message(role="assistant", text=q.answer)) for q in turns)
        samples.append(("chat", list(chain.from_iterable(pairs))))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    rows = [
        encode_sample(processor, task="text", template=template, messages=messages)
        for template, messages in (samples[index] for index in order)
    ]
    plan = pack_stream([len(row.input_ids) for row in rows], SEQ_LEN)
    if len(plan) < STEPS * SEQUENCES:
        raise AssertionError(f"{len(plan)} packs for {STEPS * SEQUENCES}: texts are shorter than {_MEAN_LENGTH} tokens")
    return [[rows[index] for index in pack] for pack in plan]


def _batch(packs: Sequence[Sequence[Encoded]], processor: Processor) -> PackedBatch:
    """A batch of text alone."""
    input_ids = torch.full((len(packs), SEQ_LEN), processor.pad_id)
    position_ids = torch.empty_like(input_ids)
    lengths: list[int] = []
    labels: list[int] = []  # flat positions of the tokens to predict
    for number, pack in enumerate(packs):
        start = 0
        for row in [*pack, None]:
            length = SEQ_LEN - start if row is None else len(row.input_ids)
            position_ids[number, start : start + length] = torch.arange(length)
            lengths.append(length)
            if row is not None:
                input_ids[number, start : start + length] = torch.tensor(row.input_ids)
                flat = number * SEQ_LEN + start
                labels += [flat + place for place, is_label in enumerate(row.loss_mask) if is_label]
            start += length
    predicted = torch.tensor(labels)
    nothing = torch.empty(0, dtype=torch.int64)
    side = processor.image_size
    return PackedBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        lengths=torch.tensor([length for length in lengths if length], dtype=torch.int32),
        pixels=torch.empty(0, side, side, 3, dtype=torch.uint8),
        pixel_positions=nothing,
        codes=nothing.view(0, processor.generation_tokens),
        code_positions=nothing,
        text_label_positions=predicted - 1,
        text_labels=input_ids.flatten()[predicted],
        text_label_tasks=torch.full_like(predicted, TASK_IDS["text"]),
        uids=[],
        tasks=[],
    )
