"""The sizes Janus comes in, as configurations.

| preset       | LLM                            | image | codes      | in all        |
|--------------|--------------------------------|-------|------------|---------------|
| janus-1.3b   | 24 layers x 2048, 16 heads     | 384   | 576 of 16k | 2,076,636,811 |
| janus-pro-1b | the same shape                 | 384   | 576 of 16k | 2,076,636,811 |
| janus-pro-7b | 30 layers x 4096, 32 heads     | 384   | 576 of 16k | 7,407,773,323 |
| tiny         | 4 layers x 128, 4 heads        | 64    | 16 of 364  | trains on CPU |

Shapes: paper, section 4.1; Janus-Pro report, table 1; DeepSeek's published config.json files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig, PretrainedConfig

from janus.model.config import PATCH_VQ, make_config


@dataclass(frozen=True)
class Preset:
    """One size: the settings of each part that differ from the published 384-px model's."""

    name: str
    text: dict[str, Any]
    """`LlamaConfig` fields, vocabulary and token ids left out: they come with the tokenizer."""
    vision: dict[str, Any]
    """`JanusVisionConfig` fields."""
    vq: dict[str, Any]
    """`JanusVQVAEConfig` fields."""
    vocab_size: int
    """Rows of the embedding table in the published model: the least there is, whatever the tokenizer needs."""
    style: str
    """Chat style: a key of `janus.model.templates.STYLES`."""


_LLM_1B = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 16384,
}
_LLM_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 16384,
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("janus-1.3b", text=_LLM_1B, vision={}, vq={}, vocab_size=102400, style="janus"),
        Preset("janus-pro-1b", text=_LLM_1B, vision={}, vq={}, vocab_size=102400, style="janus-pro"),
        Preset("janus-pro-7b", text=_LLM_7B, vision={}, vq={}, vocab_size=102400, style="janus-pro"),
        Preset(
            "tiny",
            text={
                "hidden_size": 128,
                "intermediate_size": 384,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 1024,
                # About 128 ** -0.5: at the usual 0.02 so narrow a model takes hundreds of steps to wake up.
                "initializer_range": 0.06,
            },
            vision={
                "hidden_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "mlp_ratio": 2.0,
                "image_size": 64,
                "patch_size": 16,
            },
            vq={
                "architecture": PATCH_VQ,
                "patch_size": 16,
                "num_patches": 4,
                "embed_dim": 32,
                "num_embeddings": 364,
            },
            vocab_size=0,
            style="janus",
        ),
    )
}


def find_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        ValueError: there is none; lists those there are.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_config(
    name: str,
    *,
    image_token_id: int,
    tokenizer_size: int = 0,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
    text: PretrainedConfig | None = None,
    vision: PretrainedConfig | None = None,
    vq: JanusVQVAEConfig | None = None,
) -> JanusConfig:
    """The model configuration of a preset; `text`, `vision` and `vq` replace its own parts.

    The ids have no defaults that mean anything: they are the tokenizer's. The embedding table has `tokenizer_size`
    rows or the published model's, whichever is more.

    Raises:
        ValueError: unknown preset, or parts that do not fit each other.
    """
    preset = find_preset(name)
    if text is None:
        text = LlamaConfig(**preset.text, vocab_size=max(preset.vocab_size, tokenizer_size, 1))
    text.vocab_size = max(text.vocab_size, tokenizer_size)
    text.bos_token_id, text.eos_token_id, text.pad_token_id = bos_token_id, eos_token_id, pad_token_id
    return make_config(
        text=text,
        vision=vision or JanusVisionConfig(**preset.vision),
        vq=vq or JanusVQVAEConfig(**preset.vq),
        image_token_id=image_token_id,
    )
