"""Pre-trains the small Llama on text alone, inside the Janus it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from janus.base import data
from janus.base.optimize import Optimizer
from janus.data.batch import assemble
from janus.data.config import TokenIds
from janus.data.documents import Document
from janus.data.pack import pack_stream
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.model.templates import encode_sample
from schemas.manifest import Fingerprints
from schemas.sample import Message

STEPS = 200
SEQUENCES, SEQ_LEN = 8, 512
"""Packs per step and tokens per pack."""
_MEAN_LENGTH = 68
"""Tokens of a text, roughly: it decides how many are written."""


def fit_llm(model: Janus, processor: Processor, seed: int, tick: Callable[[float], None]) -> None:
    """Train the LLM of `model` and its text head on documents and conversations, in place.

    `tick(loss)` is called after every step.
    """
    packs = _packs(processor, seed)
    ids = TokenIds(
        processor.bos_id, processor.eos_id, processor.pad_id, processor.boi_id, processor.eoi_id, processor.image_id
    )
    made_with = Fingerprints(
        tokenizer="",
        image_processor="",
        vq="",
        image_size=processor.image_size,
        understanding_tokens=processor.understanding_tokens,
        generation_tokens=processor.generation_tokens,
        codebook_size=model.config.vq_config.num_embeddings,
        pixels="raw",
    )
    trained = torch.nn.ModuleDict({"llm": model.model.language_model, "text_head": model.lm_head})
    model.requires_grad_(False)
    trained.requires_grad_(True)
    optimizer = Optimizer(trained, muon=0.01, adamw=3e-3, steps=STEPS, not_hidden=("text_head",))
    with ThreadPoolExecutor(1) as decoders:
        for step in range(STEPS):
            batch = assemble(packs[step * SEQUENCES : (step + 1) * SEQUENCES], SEQ_LEN, ids, made_with, decoders)
            losses = model.packed_loss(batch)
            loss = losses.sums.sum() / losses.counts.sum()
            optimizer.step(loss)
            tick(float(loss.detach()))
    model.requires_grad_(True)


def _packs(processor: Processor, seed: int) -> list[list[Document]]:
    """Texts enough for all steps, four documents to a conversation."""
    texts = STEPS * SEQUENCES * SEQ_LEN // _MEAN_LENGTH
    samples = [("plain", (Message(role="document", text=text),)) for text in data.documents(seed, texts * 4 // 5)]
    for turns in data.conversations(seed, texts // 5):
        messages = [
            m for q in turns for m in (Message(role="user", text=q.text), Message(role="assistant", text=q.answer))
        ]
        samples.append(("chat", tuple(messages)))
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    documents = [_document(processor, *samples[index]) for index in order]
    plan = pack_stream([len(document.input_ids) for document in documents], SEQ_LEN)
    if len(plan) < STEPS * SEQUENCES:
        raise AssertionError(f"{len(plan)} packs for {STEPS * SEQUENCES}: texts are shorter than {_MEAN_LENGTH} tokens")
    return [[documents[index] for index in pack] for pack in plan]


def _document(processor: Processor, template: str, messages: tuple[Message, ...]) -> Document:
    encoded = encode_sample(processor, task="text", template=template, messages=messages)
    return Document(
        where="base text",
        uid=b"",
        task="text",
        input_ids=np.array(encoded.input_ids, np.int32),
        image_positions=np.empty(0, np.int64),
        label_positions=np.flatnonzero(encoded.loss_mask),
        codes=np.empty(0, np.uint16),
        pixels=[],
    )
