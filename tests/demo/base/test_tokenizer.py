"""The tiny tokenizer: one token per word of the world, and some tokens for any text."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from demo.base.build import tokenizer_texts
from demo.base.tokenizer import fit_tokenizer
from demo.world.prompts import HELD_OUT_TEXTS
from demo.world.scene import COLORS, SHAPES, SIZES
from demo.world.words import NUMBERS, plural
from janus.model.processor import SPECIAL_TOKENS


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return fit_tokenizer(tokenizer_texts(0))


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_words_have_one_token_wherever_they_stand(tokenizer: PreTrainedTokenizerFast) -> None:
    for word in (
        *COLORS,
        *SHAPES,
        *map(plural, SHAPES),
        *SIZES,
        *NUMBERS,
        "yes",
        "no",
        "top",
        "left",
        "above",
        "User:",
    ):
        first = _ids(tokenizer, word)
        assert len(first) == 1, word
        assert _ids(tokenizer, f"a {word}")[1:] == first
        assert _ids(tokenizer, f"a\n{word}")[2:] == first


def test_prompts_are_as_long_as_their_words(tokenizer: PreTrainedTokenizerFast) -> None:
    for prompt in HELD_OUT_TEXTS:
        assert len(_ids(tokenizer, prompt)) == len(prompt.split())


@pytest.mark.parametrize("text", ["zoë saw 3 dogs!", "a red circle.\nyes\n\nno", "日本", "tab\tand  spaces"])
def test_any_text_survives(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(_ids(tokenizer, text)) == text


def test_special_tokens_are_janus_s(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = [getattr(tokenizer, f"{name}_id") for name in SPECIAL_TOKENS]
    assert len(set(ids)) == len(SPECIAL_TOKENS)
    assert tokenizer.convert_ids_to_tokens(ids) == list(SPECIAL_TOKENS.values())
