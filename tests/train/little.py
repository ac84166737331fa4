"""A Janus of some thousand random weights and corpora for it, for the tests of the trainer.

Words are single tokens "w6", "w7" ...; special tokens have the ids of tests/data/make.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import JanusVisionConfig, JanusVQVAEConfig, LlamaConfig, PreTrainedTokenizerFast

from janus.data.config import DataConfig
from janus.model.checkpoints.fingerprint import fingerprints
from janus.model.checkpoints.model_folder import save_janus
from janus.model.config import PATCH_VQ, make_config
from janus.model.network import Janus
from janus.model.processor import SPECIAL_TOKENS, Processor
from janus.train.presets import recipe
from janus.train.recipe import Checkpoint, Recipe, Watch
from schemas.manifest import Snapshot
from tests.data.make import FIRST_WORD, TOKENS, MadeSource, make_corpus

VOCABULARY = 64
SOURCES = (
    MadeSource("photos", "understanding", 40),
    MadeSource("texts", "text", 40),
    MadeSource("classes", "generation", 40, words=(1, 2), group="imagenet"),
    MadeSource("drawings", "generation", 40),
)


def little_tokenizer() -> PreTrainedTokenizerFast:
    """64 tokens: the special ones and words."""
    ids = {f"{name}_token": getattr(TOKENS, name) for name in ("bos", "eos", "pad", "boi", "eoi", "image")}
    special = {token: ids[name] for name, token in SPECIAL_TOKENS.items()}
    words = {f"w{number}": number for number in range(FIRST_WORD, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(special | words, unk_token="w6"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def write_model(folder: Path, *, layers: int = 2) -> Path:
    """Write a Janus folder: 32-px images, 4 understanding tokens, 4 codes of 32."""
    tokenizer = little_tokenizer()
    config = make_config(
        text=LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            bos_token_id=TOKENS.bos,
            eos_token_id=TOKENS.eos,
            pad_token_id=TOKENS.pad,
        ),
        vision=JanusVisionConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2.0, image_size=32, patch_size=16
        ),
        vq=JanusVQVAEConfig(
            architecture=PATCH_VQ, patch_size=16, num_patches=2, embed_dim=4, num_embeddings=32, base_channels=8,
            latent_channels=8,
        ),
        image_token_id=TOKENS.image,
    )  # fmt: skip
    torch.manual_seed(0)
    save_janus(folder, Janus(config).float(), Processor.from_config(config, tokenizer, style="janus"))
    return folder


def write_corpus(folder: Path, model: Path, sources: Sequence[MadeSource] = SOURCES, *, stage: int = 2) -> Snapshot:
    """Write a corpus of `sources` whose fingerprints are those of `model`."""
    return make_corpus(
        folder,
        sources,
        tokens=TOKENS,
        made_with=fingerprints(model, "jpeg"),
        vocab=VOCABULARY,
        shard_rows=16,
        stage=stage,
    )


def little_recipe(stage: int, *, steps: int = 4, **changes: object) -> Recipe:
    """The tiny recipe of a stage, with smaller steps and logging of each."""
    tiny = recipe("tiny", stage)
    # One corpus, made for stage 2, serves all stages here.
    data = DataConfig(ratio=tiny.data.ratio, sequences=4, seq_len=64, micro_batch=4, decode_threads=1, corpus_stage=2)
    start = replace(tiny, steps=steps, data=data, watch=Watch(log_every=1), checkpoint=Checkpoint(every=0))
    return replace(start, **changes)
