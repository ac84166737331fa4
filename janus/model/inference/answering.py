"""Text from a trained Janus: answers about images, captions, chat.

Shape legend: B conversations of one batch, P prompt length, V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from janus.model.inference.kv_cache import Decoder, batches, left_pad
from janus.model.inference.noise import seed_keys
from janus.model.inference.sampling_params import SamplingParams, sample
from janus.model.templates import encode_sample
from schemas.sample import Message, Role

if TYPE_CHECKING:
    from PIL import Image

    from janus.model.network import Janus
    from janus.model.processor import Processor

_WIDTH_MULTIPLE = 32
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def answer(
    model: Janus,
    processor: Processor,
    conversations: Sequence[Sequence[Message]],
    images: Sequence[Sequence[Image.Image]],
    *,
    template: str = "chat",
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float | None = None,
    seeds: Sequence[int] | None = None,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """The model's answer to each conversation, greedy unless a temperature is given.

    Args:
        conversations: messages up to the question (chat template), or none at all (caption templates).
        images: for each conversation, the pictures its `<image>` marks refer to, in order.
        seeds: one per conversation, for temperatures above 0; 0, 1, 2 ... when not given.
        batch_size: conversations at once.
        on_progress: called with the number of answers so far.

    Raises:
        ValueError: counts that do not agree, or sampling parameters out of range.
    """
    if len(images) != len(conversations):
        raise ValueError(f"{len(conversations)} conversations but {len(images)} lists of images")
    params = SamplingParams(temperature=temperature, top_p=top_p)
    seeds = range(len(conversations)) if seeds is None else seeds
    if len(seeds) != len(conversations):
        raise ValueError(f"{len(conversations)} conversations but {len(seeds)} seeds")
    prompts = [
        text_prompt(processor, conversation, bool(pictures), template)
        for conversation, pictures in zip(conversations, images, strict=True)
    ]
    found = continue_prompts(
        model,
        processor,
        prompts,
        images,
        max_new_tokens=max_new_tokens,
        params=params,
        seeds=seeds,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    return [text for text, _ in found]


def continue_prompts(
    model: Janus,
    processor: Processor,
    prompts: Sequence[list[int]],
    images: Sequence[Sequence[Image.Image]],
    *,
    max_new_tokens: int = 256,
    params: SamplingParams,
    seeds: Sequence[int],
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[tuple[str, bool]]:
    """What the model writes after each prompt (token ids, as `text_prompt` gives them), and whether it ended there: the
    others were cut at `max_new_tokens`. Other arguments as in `answer`."""
    answers = [("", True)] * len(prompts)
    done = 0
    for width, indices in batches([len(prompt) for prompt in prompts], batch_size, _WIDTH_MULTIPLE):
        steps = _tokens(
            model,
            processor,
            [prompts[i] for i in indices],
            [picture for i in indices for picture in images[i]],
            width=width,
            max_new_tokens=max_new_tokens,
            params=params,
            seeds=[seeds[i] for i in indices],
        )
        tokens = torch.stack(list(steps), dim=1).tolist()
        for index, row in zip(indices, tokens, strict=True):
            answers[index] = processor.decode(_before(row, processor.eos_id)).strip(), processor.eos_id in row
        done += len(indices)
        if on_progress is not None:
            on_progress(done)
    return answers


def stream_answer(
    model: Janus,
    processor: Processor,
    conversation: Sequence[Message],
    images: Sequence[Image.Image],
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """The answer to one chat conversation, piece by piece as it is written. Arguments as in `answer`."""
    prompt = text_prompt(processor, conversation, bool(images), "chat")
    steps = _tokens(
        model,
        processor,
        [prompt],
        list(images),
        width=len(prompt),
        max_new_tokens=max_new_tokens,
        params=SamplingParams(temperature=temperature, top_p=top_p),
        seeds=[seed],
    )
    tokens: list[int] = []
    text, shown = "", 0
    for step in steps:
        tokens.append(int(step[0]))
        text = processor.decode(_before(tokens, processor.eos_id)).lstrip()
        if not text.endswith(_REPLACEMENT):  # else a character's bytes are spread over tokens: wait for the rest
            yield text[shown:]
            shown = len(text)
    yield text[shown:]


def text_prompt(processor: Processor, conversation: Sequence[Message], with_images: bool, template: str) -> list[int]:
    """Token ids up to where the answer starts: a training row with a stand-in answer, cut at its first label.

    So a prompt is always exactly what training put before an answer.
    """
    role: Role = "assistant" if template == "chat" else "caption"
    encoded = encode_sample(
        processor,
        task="understanding" if with_images else "text",
        template=template,
        messages=[*conversation, Message(role=role, text="x")],
    )
    end = len(encoded.loss_mask) - encoded.loss_mask[::-1].index(True)
    start = end
    while start > 0 and encoded.loss_mask[start - 1]:
        start -= 1
    return encoded.input_ids[:start]


@torch.inference_mode()
def _tokens(
    model: Janus,
    processor: Processor,
    prompts: list[list[int]],
    images: list[Image.Image],
    *,
    width: int,
    max_new_tokens: int,
    params: SamplingParams,
    seeds: list[int],
) -> Iterator[torch.Tensor]:
    """int64[B] per step, until every row has met EOS or `max_new_tokens` are out."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens {max_new_tokens}: expected 1 or more")
    device = model.lm_head.weight.device
    ids, attend = left_pad(prompts, width, processor.pad_id)
    ids = ids.to(device)
    decoder = Decoder(model.model.language_model, rows=len(prompts), prompt=width, new_tokens=max_new_tokens - 1)
    keys = seed_keys(seeds, device)
    hidden = decoder.prefill(_embed(model, processor, ids, images), attend)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        token = sample(model.lm_head(hidden), keys, step, params)
        yield token
        ended |= token == processor.eos_id
        if ended.all() or step + 1 == max_new_tokens:
            return
        hidden = decoder.step(model.get_input_embeddings()(token))


def _embed(model: Janus, processor: Processor, ids: torch.Tensor, images: list[Image.Image]) -> torch.Tensor:
    """float[B, P, D]: token embeddings with the image features at the placeholders.

    Raises:
        ValueError: more or fewer images than the conversations have marks for.
    """
    embeds = model.get_input_embeddings()(ids)
    places = ids == processor.image_id
    expected = int(places.sum()) // processor.understanding_tokens
    if expected != len(images):
        raise ValueError(f"{expected} <image> marks but {len(images)} images")
    if not images:
        return embeds
    pixels = torch.from_numpy(np.stack([processor.understanding_pixels(image) for image in images]))
    embeds[places] = model.image_features(pixels.to(ids.device)).flatten(0, 1).to(embeds.dtype)
    return embeds


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
