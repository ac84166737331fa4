"""No caption, question or document can forge a token that structures a conversation, in any tokenizer's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from janus.model.checkpoints.tokenizer import load_tokenizer
from janus.model.processor import SPECIAL_TOKENS, Processor
from janus.model.templates import STYLES, TemplateError, encode_sample
from janus.model.user_text import UserText
from schemas.sample import Message
from tests.model.toy import toy_config

TEXTS = ["a red circle next to two blue squares", "How many shapes are there? Answer: 3.\n\n", "  déjà vu 東京"] * 9
PRO = STYLES["janus-pro"]


def _fit(backend: Tokenizer, vocabulary: int, **options: object) -> Tokenizer:
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=letters, show_progress=False, **options)
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def deepseek() -> tuple[Tokenizer, dict[str, str]]:
    """Janus-Pro's: byte-level BPE split in several passes, speakers and image tokens added but not marked special."""
    backend = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+")]
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    _fit(backend, 330)
    named = ("bos_token", "eos_token", "pad_token")
    backend.add_special_tokens([AddedToken(SPECIAL_TOKENS[name], normalized=False) for name in named])
    images = [SPECIAL_TOKENS[name] for name in ("boi_token", "eoi_token", "image_token")]
    plain = [*images, PRO.user, PRO.assistant, "<|ref|>", "\t\t"]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in plain])
    return backend, {name: SPECIAL_TOKENS[name] for name in named}


def qwen() -> tuple[Tokenizer, dict[str, str]]:
    """ChatML: <|im_start|> and <|im_end|> special, tool marks added but not special, no BOS, NFC first."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    _fit(backend, 330)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, normalized=False) for token in ("<tool_call>", "</tool_call>", "<think>")])
    return backend, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def smollm2() -> tuple[Tokenizer, dict[str, str]]:
    """Special tokens are the first entries of the model's own vocabulary; <|im_start|> is BOS, <|endoftext|> unk."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"]
    backend = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    backend.decoder = decoders.ByteLevel()
    _fit(backend, 330, special_tokens=special)
    return backend, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}


LAYOUTS = (deepseek, qwen, smollm2)


def processor_of(layout: Callable[[], tuple[Tokenizer, dict[str, str]]], folder: Path) -> Processor:
    """The processor of a Janus whose language model brought this tokenizer."""
    backend, names = layout()
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    style = "janus-pro" if layout is deepseek else "janus"
    return Processor.from_config(toy_config(), load_tokenizer(folder, add_missing=True), style=style)


def structure(processor: Processor) -> dict[str, int]:
    """Tokens that no text may hold, by name: those of the template, and all that the tokenizer calls special."""
    names = [getattr(processor.tokenizer, name) for name in SPECIAL_TOKENS] + [PRO.user, PRO.assistant]
    names += [token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special]
    vocabulary = processor.tokenizer.get_vocab()
    return {name: vocabulary[name] for name in names if name in vocabulary}


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def processor(request: pytest.FixtureRequest, tmp_path: Path) -> Processor:
    return processor_of(request.param, tmp_path)


def test_written_out_tokens_stay_text(processor: Processor) -> None:
    forbidden = structure(processor)
    assert len(forbidden) >= 8
    for name in forbidden:
        for text in (name, f"a cat{name}", f"{name}: yes{name}{name}\n\n{name}", f" {name} ", name[:-1] + name + name):
            ids = processor.encode(text)
            assert not set(forbidden.values()) & set(ids), (name, text)
            assert processor.tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("task", ["understanding", "generation", "text"])
def test_a_sample_has_the_structure_of_its_template_whatever_it_says(processor: Processor, task: str) -> None:
    """Same structural tokens at the same places relative to each other as with harmless words."""
    forbidden = set(structure(processor).values())

    def shape(word: str) -> list[int]:
        mark = "<image>\n" if task == "understanding" else ""
        if task == "generation":
            messages = [Message(role="caption", text=f"a {word} cat")]
        else:
            messages = [
                Message(role="system", text=f"be {word}"),
                Message(role="user", text=f"{mark}what {word}"),
                Message(role="assistant", text=f"it is {word}"),
                Message(role="user", text=f"{word}?"),
                Message(role="assistant", text=f"{word}"),
            ]
        encoded = encode_sample(processor, task=task, template="chat", messages=messages)
        return [token for token in encoded.input_ids if token in forbidden]

    expected = shape("big")
    assert processor.eos_id in expected
    for name in structure(processor):
        assert shape(name) == expected, name


def test_a_text_of_nothing_else_costs_no_more_than_its_length(processor: Processor) -> None:
    """No recursion, and no second look at what was cut: 30,000 of them, one in the other and one after the other."""
    name, forbidden = max(structure(processor), key=len), set(structure(processor).values())
    for text in (name * 30_000, "".join(name[:-1] + name[-1] * 2 for _ in range(30_000)), name[:3] * 30_000):
        assert not forbidden & set(processor.encode(text))


def test_ordinary_text_has_the_tokens_of_its_tokenizer(processor: Processor) -> None:
    """Added tokens that are part of the language, not of the structure, are still matched."""
    backend = processor.tokenizer.backend_tokenizer
    for text in (*TEXTS[:3], "x\t\ty", "<tool_call> {1}", "a < b | c > d"):
        assert processor.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_a_piece_of_the_model_itself_cannot_be_forged() -> None:
    """Unigram and word-level models find names in their own vocabulary, whatever added tokens say."""
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *((c, -3.0) for c in "abc</s>x ")], unk_id=0))
    assert 1 in unigram.encode("ab</s>c", add_special_tokens=False).ids
    text = UserText(unigram, ["</s>"])
    assert 1 not in text.encode("ab</s>c")
    assert len(text.encode("ab</s>c")) == 7
    words = Tokenizer(models.WordLevel({"[unk]": 0, "<eos>": 1, "a": 2, "|": 3}, unk_token="[unk]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert UserText(words, ["<eos>", "[unk]"]).encode("a <eos> b a") == [2, 0, 0, 0, 2]
    with pytest.raises(TemplateError, match=r"holds '\|', which is a special token"):
        UserText(words, ["|"]).encode("a | a")


def test_the_tokenizer_itself_is_left_as_it_was() -> None:
    backend, _ = deepseek()
    backend.enable_truncation(3)
    before = backend.to_str()
    text = UserText(backend, [PRO.user])
    assert len(text.encode("a red circle next to a blue one")) > 3
    assert backend.to_str() == before
    assert backend.token_to_id(PRO.user) in backend.encode(f"a {PRO.user}").ids
