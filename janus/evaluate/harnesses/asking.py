"""What the adapters share: turns of pictures and text, and asking many of them, as `python -m janus.evaluate` asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from janus.evaluate import ask
from janus.evaluate.chosen import Subject
from schemas.sample import IMAGE_MARK, Message

if TYPE_CHECKING:
    from PIL import Image

    from janus.model.inference.sampling_params import SamplingParams


def user_turn(text: str, pictures: int) -> Message:
    """A user's turn: all pictures, a line end and the text, unless the text says itself where each picture stands.

    The line end is what training puts there; without it some answers differ.

    Raises ValueError with one line if the text has marks for other pictures than there are.
    """
    marks = text.count(IMAGE_MARK)
    if marks not in (0, pictures):
        raise ValueError(f"{marks} {IMAGE_MARK} marks in the text, but {pictures} pictures")
    if pictures and not marks:
        text = f"{IMAGE_MARK * pictures}\n{text}"
    return Message(role="user", text=text)


def answers(
    subject: Subject,
    conversations: Sequence[Sequence[Message]],
    pictures: Callable[[int], Sequence[Image.Image]],
    *,
    max_new_tokens: int,
    params: SamplingParams,
    seeds: Sequence[int],
    batch_size: int,
    on_answer: Callable[[int, str], None],
) -> None:
    """Answer conversations, in the batches that an evaluation of the same questions makes.

    Args:
        pictures: the pictures of conversation `index`, in the order of their marks; called once, when it is asked.
        max_new_tokens: longest answer; what is left of the model's context if that is less.
        seeds: one per conversation, for temperatures above 0.
        on_answer: called with index and answer, out of order.

    Raises ValueError with one line for a conversation that the model cannot read.
    """
    from janus.model.inference.answering import answer, text_prompt

    model, processor = subject.model, subject.processor
    context = model.config.text_config.max_position_embeddings
    marked = [any(IMAGE_MARK in message.text for message in one) for one in conversations]
    lengths = [
        len(text_prompt(processor, one, with_images, "chat"))
        for one, with_images in zip(conversations, marked, strict=True)
    ]
    if lengths and max(lengths) >= context:
        index = lengths.index(max(lengths))
        raise ValueError(f"question {index}: its prompt has {lengths[index]} tokens, and the model reads {context}")
    for batch in ask.plan(lengths, batch_size):
        longest = max(lengths[index] for index in batch)
        said = answer(
            model,
            processor,
            [conversations[index] for index in batch],
            [pictures(index) for index in batch],
            max_new_tokens=min(max_new_tokens, context - longest),
            temperature=params.temperature,
            top_p=params.top_p,
            seeds=[seeds[index] for index in batch],
            batch_size=batch_size,
        )
        for index, text in zip(batch, said, strict=True):
            on_answer(index, text)
