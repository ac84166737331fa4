"""Pre-trains the small Llama on text alone, inside the Janus it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from demo.base import data
from demo.base.optimize import Optimizer
from janus.data.batch import assemble
from janus.data.config import TokenIds
from janus.data.documents import RowDocument
from janus.data.pack import pack_stream
from janus.data.shards import Row
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.model.templates import Encoded, encode_sample
from schemas.manifest import Fingerprints
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
    tokens = TokenIds(
        processor.bos_id, processor.eos_id, processor.pad_id, processor.boi_id, processor.eoi_id, processor.image_id
    )
    made_with = Fingerprints(
        tokenizer="", image_processor="", vq="", image_size=processor.image_size,
        understanding_tokens=processor.understanding_tokens, generation_tokens=processor.generation_tokens,
        codebook_size=model.config.vq_config.num_embeddings, pixels="raw",
    )  # fmt: skip
    with ThreadPoolExecutor(1) as decoders:
        for step in range(STEPS):
            some = packs[step * SEQUENCES : (step + 1) * SEQUENCES]
            losses = model.packed_loss(assemble(some, SEQ_LEN, tokens, made_with, decoders))
            loss = losses.sums.sum() / losses.counts.sum()
            optimizer.step(loss)
            tick(float(loss.detach()))
    model.requires_grad_(True)


def _packs(processor: Processor, seed: int) -> list[list[RowDocument]]:
    """Texts enough for all steps, four documents to a conversation."""
    texts = STEPS * SEQUENCES * SEQ_LEN // _MEAN_LENGTH
    samples = [("plain", [Message(role="document", text=text)]) for text in data.documents(seed, texts * 4 // 5)]
    for turns in data.conversations(seed, texts // 5):
        pairs = ((Message(role="user", text=q.text), Message(role="assistant", text=q.answer)) for q in turns)
        samples.append(("chat", list(chain.from_iterable(pairs))))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    rows = [
        _document(encode_sample(processor, task="text", template=template, messages=messages))
        for template, messages in (samples[index] for index in order)
    ]
    plan = pack_stream([len(row.input_ids) for row in rows], SEQ_LEN)
    if len(plan) < STEPS * SEQUENCES:
        raise AssertionError(f"{len(plan)} packs for {STEPS * SEQUENCES}: texts are shorter than {_MEAN_LENGTH} tokens")
    return [[rows[index] for index in pack] for pack in plan]


def _document(encoded: Encoded) -> RowDocument:
    """A text that is in no shard, as the loader makes them of rows."""
    ids, mask = np.array(encoded.input_ids, np.int32), np.array(encoded.loss_mask)
    row = Row(Path(), 0, b"", ids, mask, short_ids=None, codes=np.empty(0, np.uint16), pixels=[])
    return RowDocument(b"", "text", ids, placeholders={}, label_positions=np.flatnonzero(mask), row=row)
