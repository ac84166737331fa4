"""Asking a model all questions of a benchmark: batches of one length, split over processes, resumable.

Which questions share a batch follows from the questions alone, never from the number of processes or from where a
killed run stopped. A batch is asked and stored whole. So one process, eight, or one that was killed ask the very same
batches and get the same answers to the last bit of every logit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from janus.evaluate.benchmark import Question
from janus.evaluate.prompts import PromptTemplates
from janus.evaluate.store import AnswerStore
from schemas.sample import IMAGE_MARK, Message

if TYPE_CHECKING:
    from PIL import Image

    from janus.model.network import Janus
    from janus.model.processor import Processor
    from janus.train.world import World

_WIDTH_MULTIPLE = 32
"""Prompts of one padded length share a batch, as in `janus.model.inference.answering`."""


def conversation(question: Question, prompts: PromptTemplates) -> list[Message]:
    """The messages of a question: its system prompt if it has one, then all pictures and the text."""
    options = {} if question.listed else question.options
    text = prompts.put(question.template, question.text, options, question.hint)
    asked = Message(role="user", text=f"{IMAGE_MARK * len(question.pictures)}\n{text}")
    return [Message(role="system", text=question.system), asked] if question.system else [asked]


def plan(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of the questions of each batch, longest prompts first: what does not fit into memory fails at once."""
    from janus.model.inference.kv_cache import batches

    return [indices for _, indices in batches(lengths, batch_size, _WIDTH_MULTIPLE)][::-1]


def ask(
    model: Janus,
    processor: Processor,
    questions: Sequence[Question],
    prompts: PromptTemplates,
    store: AnswerStore,
    *,
    batch_size: int,
    world: World,
    on_progress: Callable[[int, int], None],
) -> None:
    """Put every question that `store` has no answer to, greedily, and store the answers.

    Args:
        on_progress: called with this process's questions answered so far, and all of its questions.

    Raises:
        ValueError: a picture or prompt that cannot be used, naming the question.
    """
    from janus.model.inference.answering import answer, text_prompt

    conversations = [conversation(question, prompts) for question in questions]
    lengths = [
        len(text_prompt(processor, messages, bool(question.pictures), "chat"))
        for question, messages in zip(questions, conversations, strict=True)
    ]
    context = model.config.text_config.max_position_embeddings
    for question, length in zip(questions, lengths, strict=True):
        if length >= context:
            raise ValueError(f"question {question.id}: its prompt has {length} tokens, and the model reads {context}")
    mine = plan(lengths, batch_size)[world.rank :: world.size]
    known = store.read()
    todo = [batch for batch in mine if any(questions[index].id not in known for index in batch)]
    total = sum(map(len, mine))
    done = total - sum(map(len, todo))
    on_progress(done, total)
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_open, [questions[i] for i in batch]) for batch in todo[:1]]
        for place, batch in enumerate(todo):
            pictures = ahead.pop().result()
            if place + 1 < len(todo):
                ahead.append(reader.submit(_open, [questions[i] for i in todo[place + 1]]))
            longest = max(lengths[index] for index in batch)
            said = answer(
                model,
                processor,
                [conversations[index] for index in batch],
                pictures,
                max_new_tokens=min(prompts.max_new_tokens, context - longest),
                batch_size=batch_size,
            )
            store.add(zip((questions[index].id for index in batch), said, strict=True))
            done += len(batch)
            on_progress(done, total)


def _open(questions: Sequence[Question]) -> list[list[Image.Image]]:
    """The pictures of a batch, read while the batch before is being answered."""
    opened = []
    for question in questions:
        try:
            opened.append([picture.open() for picture in question.pictures])
        except (ValueError, OSError) as error:
            raise ValueError(f"question {question.id}: {error}") from None
    return opened
