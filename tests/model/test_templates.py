"""The label table: what every task and template turns into, token by token."""

from __future__ import annotations

import random
import re

import pytest

from janus.model.templates import STYLES, Encoded, Style, TemplateError, encode_sample, first_sentence
from schemas.sample import Message

BOS, EOS, BOI, EOI, IMG = 1000, 1001, 1002, 1003, 1004
USER, ASSISTANT = 1005, 1006


class Letters:
    """A tokenizer of one token per character, with 2 tokens per understanding image and 3 codes per generated one."""

    bos_id, eos_id, boi_id, eoi_id, image_id = BOS, EOS, BOI, EOI, IMG
    understanding_tokens, generation_tokens = 2, 3

    def __init__(self, style: str = "janus") -> None:
        self.style = style

    @property
    def speakers(self) -> Style:
        return STYLES[self.style]

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def token_id(self, token: str) -> int | None:
        return {"<|User|>": USER, "<|Assistant|>": ASSISTANT}.get(token)


def m(role: str, text: str) -> Message:
    return Message(role=role, text=text)  # type: ignore[arg-type]


def shown(encoded: Encoded) -> str:
    """One line: text as it is, specials in angle brackets, labels in capitals (letters) or with * (specials)."""
    names = {BOS: "<bos>", EOS: "<eos>", BOI: "<boi>", EOI: "<eoi>", IMG: "<i>", USER: "<u>", ASSISTANT: "<a>"}
    line = ""
    for token, label in zip(encoded.input_ids, encoded.loss_mask, strict=True):
        if token in names:
            line += names[token] + ("*" if label else "")
        else:
            line += chr(token).upper() if label else chr(token)
    return line


PICTURE = "<boi><i><i><eoi>"
IMAGE = "<boi><i>*<i>*<i>*<eoi>"
TABLE = [
    ("generation", "plain", [m("caption", "a cat")], f"<bos>a cat{IMAGE}<eos>"),
    ("generation", "chat", [m("caption", "a cat")], f"<bos>User: a cat\n\nAssistant:{IMAGE}<eos>"),
    ("understanding", "plain", [m("caption", "a cat")], f"<bos>{PICTURE}A CAT<eos>*"),
    ("understanding", "describe", [m("caption", "cat")], f"<bos>{PICTURE}Describe the image in detail.CAT<eos>*"),
    ("understanding", "plain", [m("document", "x <image> y")], f"<bos>X {PICTURE} Y<eos>*"),
    ("understanding", "plain", [m("document", "<image><image>y")], f"<bos>{PICTURE}{PICTURE}Y<eos>*"),
    ("text", "plain", [m("document", "words")], "<bos>WORDS<eos>*"),
    ("text", "chat", [m("user", "hi"), m("assistant", "ho")], "<bos>User: hi\n\nAssistant: HO<eos>*"),
    (
        "understanding",
        "chat",
        [
            m("system", "be kind"),
            *(m("user", "<image>\nwhat"), m("assistant", "cat")),
            *(m("user", "sure"), m("assistant", "yes")),
        ],
        f"<bos>be kind\n\nUser: {PICTURE}\nwhat\n\nAssistant: CAT<eos>*User: sure\n\nAssistant: YES<eos>*",
    ),
]


@pytest.mark.parametrize(("task", "template", "messages", "expected"), TABLE)
def test_label_table(task: str, template: str, messages: list[Message], expected: str) -> None:
    # The template's own capitals are no labels: only "Describe", "User" and "Assistant" have any.
    assert shown(encode_sample(Letters(), task=task, template=template, messages=messages)) == expected


def test_speakers_of_janus_pro_are_single_tokens() -> None:
    chat = [m("user", "hi"), m("assistant", "ho")]
    encoded = encode_sample(Letters("janus-pro"), task="text", template="chat", messages=chat)
    assert shown(encoded) == "<bos><u>: hi\n\n<a>: HO<eos>*"
    prompt = encode_sample(Letters("janus-pro"), task="generation", template="chat", messages=[m("caption", "cat")])
    assert shown(prompt) == f"<bos><u>: cat\n\n<a>:{IMAGE}<eos>"


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_short_ids_hold_the_first_sentence_only(template: str) -> None:
    def ids(caption: str) -> Encoded:
        return encode_sample(Letters(), task="generation", template=template, messages=[m("caption", caption)])

    assert ids("One. Two.").short_ids == ids("One.").input_ids
    assert ids("One.").short_ids is None


@pytest.mark.parametrize(
    ("caption", "first"),
    [
        ("A dog. It runs.", "A dog."),
        ("No full stop", "No full stop"),
        ("Is it? Yes.", "Is it?"),
        ("It costs 3.5 dollars. Cheap.", "It costs 3.5 dollars."),
        ("Dr. Smith and J. Doe sit. They talk.", "Dr. Smith and J. Doe sit."),
        ('He says "go." Then he goes.', 'He says "go."'),
        ("Wait... what? Yes", "Wait..."),
        ("一只狗。它在跑。", "一只狗。"),
        ("Line one.\nLine two.", "Line one."),
    ],
)
def test_first_sentence(caption: str, first: str) -> None:
    assert first_sentence(caption) == first


@pytest.mark.parametrize(
    ("task", "template", "messages", "problem"),
    [
        ("generation", "plain", [], "expected one caption message, got none"),
        ("generation", "plain", [m("caption", "  ")], "the caption is empty"),
        ("generation", "plain", [m("caption", "a <image>")], "carries no <image> mark"),
        ("generation", "describe", [m("caption", "a")], "has the templates plain and chat"),
        ("understanding", "describe", [m("document", "a")], "expected one caption message, got document"),
        ("understanding", "quiz", [m("caption", "a")], "unknown template 'quiz'"),
        ("understanding", "plain", [m("document", " <image> ")], "holds no text"),
        ("text", "plain", [m("caption", "a")], "one document message"),
        ("text", "chat", [m("user", "a")], "pairs of user and assistant"),
        ("text", "chat", [m("assistant", "a"), m("user", "b")], "alternates user and assistant"),
        ("text", "chat", [m("user", "a"), m("assistant", " ")], "answer is empty"),
        ("text", "chat", [m("user", "a"), m("assistant", "<image>")], "answer carries"),
        ("text", "chat", [m("system", "a")], "pairs of user and assistant"),
    ],
)
def test_messages_that_do_not_fit(task: str, template: str, messages: list[Message], problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        encode_sample(Letters(), task=task, template=template, messages=messages)


def first_sentence_slowly(caption: str) -> str:
    """The same by looking back over the whole caption at each mark."""
    for match in re.finditer(r"(?:[.!?]+[\"')\]]*(?=\s))|[。！？]", caption):
        head = caption[: match.end()]
        if not re.search(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|vs|etc|No|approx|e\.g|i\.e|cf)|\b[A-Z])\.$", head):
            return head
    return caption


def test_first_sentence_equals_the_slow_one_on_random_text() -> None:
    dice = random.Random(0)
    parts = ["A", "Dr", "approx", "e.g", "i.e", "Mr", "xapprox", "word", ".", ".", "!", "?", "...", '"', "'", ")", "]"]
    parts += [" ", " ", "\n", "。", "é", "_", "-"]
    for _ in range(20_000):
        caption = "".join(dice.choice(parts) for _ in range(dice.randrange(12)))
        assert first_sentence(caption) == first_sentence_slowly(caption), caption


@pytest.mark.parametrize("piece", ["A. ", "e.g. ", ".", "?!", '."', ".'", "Dr. A. ", '.")]'])
def test_first_sentence_of_a_long_caption_takes_one_pass(piece: str) -> None:
    """Two million characters: with a pass for each mark it would take hours."""
    caption = piece * (2_000_000 // len(piece))
    assert first_sentence(caption) == caption
