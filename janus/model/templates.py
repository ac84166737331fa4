"""Templates: how a sample's messages become token ids and a loss mask.

| task          | template | tokens                                                        | labels          |
|---------------|----------|---------------------------------------------------------------|-----------------|
| generation    | plain    | BOS caption BOI image*N_g EOI EOS                             | the image       |
| generation    | chat     | BOS "User: caption\n\nAssistant:" BOI image*N_g EOI EOS       | the image       |
| understanding | plain    | BOS [picture] caption EOS                                     | caption, EOS    |
| understanding | describe | BOS [picture] "Describe the image in detail." caption EOS     | caption, EOS    |
| any           | plain    | BOS document EOS, with [picture] at each `<image>`            | all text, EOS   |
| any           | chat     | BOS "User: ..\n\nAssistant: .." EOS "User: ..\n\n" ...        | answers, EOS    |

[picture] is BOI image*N_u EOI, never a label. The label of position i is token i itself: the shift is the packer's
business. Paper section 3.3; chat format from DeepSeek's `get_conv_template("deepseek")`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.sample import IMAGE_MARK, Message

DESCRIBE = "Describe the image in detail."
TURN_END = "\n\n"
"""Between a question and its answer."""


class TemplateError(ValueError):
    """A sample's messages do not fit its template."""


@dataclass(frozen=True)
class Style:
    """The names of the two speakers in a model's chat template."""

    user: str
    assistant: str


STYLES = {"janus": Style("User", "Assistant"), "janus-pro": Style("<|User|>", "<|Assistant|>")}


class Tokens(Protocol):
    """What templates need from a processor."""

    bos_id: int
    eos_id: int
    boi_id: int
    eoi_id: int
    image_id: int
    understanding_tokens: int
    generation_tokens: int

    @property
    def speakers(self) -> Style:
        """Names in the chat template."""

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text: special tokens written out in it stay text."""

    def token_id(self, token: str) -> int | None:
        """Id of `token` if the vocabulary has it as one special token."""


@dataclass(frozen=True)
class Encoded:
    """A tokenized sample."""

    input_ids: list[int]
    loss_mask: list[bool]
    """True where the token is a label."""
    short_ids: list[int] | None
    """Generation: the same with only the caption's first sentence; None if that is the whole caption."""


class _Row:
    """A row under construction. Neighbouring text of one kind is tokenized together, as at inference."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._ids = [tokens.bos_id]
        self._mask = [False]
        self._pending = ""
        self._label = False

    def text(self, text: str, *, label: bool = False) -> _Row:
        """Text without marks."""
        if label != self._label:
            self._flush()
        self._pending, self._label = self._pending + text, label
        return self

    def document(self, text: str, *, label: bool = False) -> _Row:
        """Text with a picture at each `<image>` mark."""
        for index, part in enumerate(text.split(IMAGE_MARK)):
            if index:
                self.image(self._tokens.understanding_tokens)
            self.text(part, label=label)
        return self

    def speaker(self, name: str) -> _Row:
        """A speaker's name: one special token where the vocabulary has it, else text."""
        special = self._tokens.token_id(name)
        return self.text(name) if special is None else self._add([special])

    def image(self, count: int, *, label: bool = False) -> _Row:
        """BOI, `count` image tokens, EOI."""
        return self._add([self._tokens.boi_id])._add([self._tokens.image_id] * count, label)._add([self._tokens.eoi_id])

    def end(self, *, label: bool = False) -> _Row:
        """EOS."""
        return self._add([self._tokens.eos_id], label)

    def encoded(self, short_ids: list[int] | None = None) -> Encoded:
        """The finished row."""
        self._flush()
        return Encoded(self._ids, self._mask, short_ids)

    def _flush(self) -> None:
        text, self._pending = self._pending, ""
        if text:
            self._add(self._tokens.encode(text), self._label)

    def _add(self, ids: list[int], label: bool = False) -> _Row:
        self._flush()
        self._ids += ids
        self._mask += [label] * len(ids)
        return self


def encode_sample(processor: Tokens, *, task: str, template: str, messages: Sequence[Message]) -> Encoded:
    """Token ids and loss mask of one sample.

    Args:
        processor: a `janus.model.processor.Processor`, or anything with its tokens.
        task: understanding, text or generation.
        template: plain, describe or chat (`schemas.spec.Source.template`).
        messages: as `schemas.sample` describes them.

    Raises TemplateError if the messages do not fit the template.
    """
    if task == "generation":
        return _generation(processor, template, _only(messages, "caption"))
    if template == "chat":
        return _chat(processor, messages)
    if template not in ("plain", "describe"):
        raise TemplateError(f"unknown template {template!r}; expected plain, describe or chat")
    if template == "plain" and len(messages) == 1 and messages[0].role == "document":
        return _document(processor, messages[0].text)
    if task == "text":
        raise TemplateError("text without the chat template takes the plain template and one document message")
    row = _Row(processor).image(processor.understanding_tokens)
    if template == "describe":
        row.text(DESCRIBE)
    return row.text(_only(messages, "caption"), label=True).end(label=True).encoded()


def _only(messages: Sequence[Message], role: str) -> str:
    if len(messages) != 1 or messages[0].role != role:
        roles = ", ".join(message.role for message in messages) or "none"
        raise TemplateError(f"expected one {role} message, got {roles}")
    text = messages[0].text.strip()
    if IMAGE_MARK in text:
        raise TemplateError(f"a {role} carries no {IMAGE_MARK} mark: it describes the sample's one image")
    if not text:
        raise TemplateError(f"the {role} is empty")
    return text


def _document(processor: Tokens, text: str) -> Encoded:
    if not text.replace(IMAGE_MARK, "").strip():
        raise TemplateError("the document holds no text")
    return _Row(processor).document(text, label=True).end(label=True).encoded()


def _generation(processor: Tokens, template: str, caption: str) -> Encoded:
    if template not in ("plain", "chat"):
        raise TemplateError(f"generation has the templates plain and chat, not {template!r}")

    def encode(text: str, short_ids: list[int] | None = None) -> Encoded:
        row = _Row(processor)
        if template == "chat":
            speakers = processor.speakers
            row.speaker(speakers.user).text(f": {text}{TURN_END}").speaker(speakers.assistant).text(":")
        else:
            row.text(text)
        return row.image(processor.generation_tokens, label=True).end().encoded(short_ids)

    short = first_sentence(caption)
    return encode(caption, encode(short).input_ids if short != caption else None)


def _chat(processor: Tokens, messages: Sequence[Message]) -> Encoded:
    """An optional system message, then user and assistant in turn; the last word is the assistant's."""
    turns = list(messages)
    row = _Row(processor)
    system = turns.pop(0).text.strip() if turns and turns[0].role == "system" else ""
    if system:
        row.text(system + TURN_END)
    if not turns or len(turns) % 2:
        raise TemplateError(f"a chat is pairs of user and assistant messages; got {len(turns)} messages")
    speakers = processor.speakers
    for question, answer in zip(turns[::2], turns[1::2], strict=True):
        if (question.role, answer.role) != ("user", "assistant"):
            raise TemplateError(f"a chat alternates user and assistant; got {question.role}, {answer.role}")
        if IMAGE_MARK in answer.text:
            raise TemplateError(f"an assistant's answer carries an {IMAGE_MARK} mark")
        if not answer.text.strip():
            raise TemplateError("an assistant's answer is empty")
        row.speaker(speakers.user).document(f": {question.text.strip()}{TURN_END}").speaker(speakers.assistant).text(
            ":"
        )
        row.text(f" {answer.text.strip()}", label=True).end(label=True)
    return row.encoded()


# Each run of marks is tried once, from its first one, and never again a mark shorter: linear for any caption.
_SENTENCE_END = re.compile(r"(?:(?<![.!?])[.!?]++[\"')\]]*+(?=\s))|[。！？]")
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|etc|No|approx|e\.g|i\.e|cf)|\b[A-Z])\.$")
_ABBREVIATION_CHARS = 16
"""More than the longest abbreviation, so that the end of a sentence can be judged without looking back further."""


def first_sentence(caption: str) -> str:
    """The caption up to the end of its first sentence (paper section 3.3: used 25% of the time instead of the whole).

    A full stop ends a sentence only before white space, and not after an initial or a common abbreviation.
    """
    for match in _SENTENCE_END.finditer(caption):
        if not _ABBREVIATION.search(caption[max(0, match.end() - _ABBREVIATION_CHARS) : match.end()]):
            return caption[: match.end()]
    return caption


def chat_template(style: Style, *, image_token: str, eos_token: str) -> str:
    """The Jinja chat template that `transformers` needs to build the same prompts as `encode_sample`.

    Message contents may be strings with `<image>` marks left out, or lists of {"type": "image"} and {"type": "text"}.
    """
    return (
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ '" + style.user + ": ' }}"
        "{% elif message['role'] == 'assistant' %}{{ '" + style.assistant + ": ' }}{% endif %}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}{{ '" + image_token + "' }}{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}"
        "{{ '" + eos_token + "' if message['role'] == 'assistant' else '\n\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '" + style.assistant + ":' }}{% endif %}"
    )
