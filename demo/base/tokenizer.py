"""Fits the tiny BPE tokenizer: byte-level, so any text has tokens; the world's words have one each."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from janus.model.processor import SPECIAL_TOKENS

VOCABULARY = 448
"""Tokens in all: 256 bytes, 6 special ones, and room for every word of the world."""


def fit_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer fitted to `texts`, with Janus's special tokens.

    The start of a text or line counts as a space, so that a word has the same token wherever it stands.
    """
    tokenizer = Tokenizer(models.BPE())
    spaced = ((Regex(r"^ (?=\s)"), ""), (Regex(r"\n(?=\S)"), "\n "))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(" "), *(normalizers.Replace(pattern, text) for pattern, text in spaced)]
    )
    words = Regex(r" ?\p{L}+:?| ?\p{N}| ?[^\s\p{L}\p{N}]+|\n+|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Strip(" ", 1, 0), decoders.Replace("\n ", "\n")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    named = {name: SPECIAL_TOKENS[f"{name}_token"] for name in ("bos", "eos", "pad")}
    extra = {f"{name}_token": SPECIAL_TOKENS[f"{name}_token"] for name in ("boi", "eoi", "image")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=named["bos"],
        eos_token=named["eos"],
        pad_token=named["pad"],
        extra_special_tokens=extra,
        clean_up_tokenization_spaces=False,
    )
