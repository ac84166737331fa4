"""Answers against transformers' `generate`, in batches, with images and over several turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import JanusForConditionalGeneration

from janus.model.inference.answering import answer, stream_answer, text_prompt
from janus.model.network import Janus
from janus.model.processor import Processor
from schemas.sample import Message
from tests.model.toy import EOS, IMG, toy_janus

USER = Message(role="user", text="<image>\nWhat is it?")


@pytest.fixture(scope="module")
def toy() -> tuple[Janus, Processor]:
    return toy_janus()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


CONVERSATIONS = [
    [USER],
    [Message(role="user", text="Hello, who are you?")],
    [
        Message(role="system", text="You are brief."),
        Message(role="user", text="<image>First, then <image> second: which is larger?"),
        Message(role="assistant", text="The first."),
        Message(role="user", text="Why?"),
    ],
]


def transformers_answer(model: Janus, processor: Processor, ids: list[int], images: list[Image.Image], new: int) -> str:
    """transformers' own greedy `generate` on one conversation."""
    tensor = torch.tensor([ids])
    inputs = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
    if images:
        pixels = np.stack([processor.understanding_pixels(image) for image in images])
        inputs["pixel_values"] = processor.normalize(torch.from_numpy(pixels))
    model.generation_config.eos_token_id = EOS
    output = JanusForConditionalGeneration.generate(model, **inputs, max_new_tokens=new, do_sample=False)
    return processor.decode(output[0, len(ids) :].tolist()).strip()


def test_a_batch_of_conversations_answers_as_transformers_does_one_by_one(
    toy: tuple[Janus, Processor], pictures: list[Image.Image]
) -> None:
    model, processor = toy
    images = [[pictures[0]], [], pictures[1:]]
    found = answer(model, processor, CONVERSATIONS, images, max_new_tokens=10, batch_size=3)
    for conversation, shown, text in zip(CONVERSATIONS, images, found, strict=True):
        ids = text_prompt(processor, conversation, bool(shown), "chat")
        assert text == transformers_answer(model, processor, ids, shown, 10)
    assert len(set(found)) == 3


def test_the_picture_matters(toy: tuple[Janus, Processor], pictures: list[Image.Image]) -> None:
    found = answer(*toy, [[USER]] * 2, [[pictures[0]], [pictures[1]]], max_new_tokens=10)
    assert found[0] != found[1]


def test_a_prompt_ends_where_training_puts_the_answer(toy: tuple[Janus, Processor]) -> None:
    _, processor = toy
    ids = text_prompt(processor, CONVERSATIONS[2], True, "chat")
    words = processor.decode([token for token in ids if token != IMG])
    assert words == (
        "You are brief.\n\nUser: First, then  second: which is larger?\n\nAssistant: The first.User: Why?\n\nAssistant:"
    )
    assert ids.count(IMG) == 2 * processor.understanding_tokens
    assert ids.count(EOS) == 1
    assert processor.decode(text_prompt(processor, [], True, "describe")) == "Describe the image in detail."


def test_a_stream_is_the_answer_in_pieces(toy: tuple[Janus, Processor], pictures: list[Image.Image]) -> None:
    pieces = list(stream_answer(*toy, CONVERSATIONS[0], pictures[:1], max_new_tokens=10))
    whole = answer(*toy, CONVERSATIONS[:1], [pictures[:1]], max_new_tokens=10)[0]
    assert len(pieces) > 1
    assert "".join(pieces).strip() == whole


def test_an_answer_ends_at_eos(toy: tuple[Janus, Processor]) -> None:
    """With a text head that only knows EOS every answer is empty, and only one step is run."""
    model, processor = toy
    calls = []
    hook = model.lm_head.register_forward_hook(lambda _, inputs, output: calls.append(1) or _only_eos(output))
    try:
        assert answer(model, processor, CONVERSATIONS[1:2], [[]], max_new_tokens=50) == [""]
    finally:
        hook.remove()
    assert len(calls) == 1


def _only_eos(logits: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.full(logits.shape[:-1], EOS), logits.shape[-1]).float()


def test_sampled_answers_follow_their_seed(toy: tuple[Janus, Processor]) -> None:
    question = CONVERSATIONS[1]
    found = answer(*toy, [question] * 3, [[]] * 3, max_new_tokens=10, temperature=1.0, seeds=[3, 4, 3])
    assert found[0] == found[2] != found[1]


def test_images_must_match_the_marks(toy: tuple[Janus, Processor], pictures: list[Image.Image]) -> None:
    with pytest.raises(ValueError, match="1 <image> marks but 2 images"):
        answer(*toy, [[USER]], [pictures[:2]], max_new_tokens=2)
    with pytest.raises(ValueError, match="1 conversations but 0 lists of images"):
        answer(*toy, [[USER]], [], max_new_tokens=2)
