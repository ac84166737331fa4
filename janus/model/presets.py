"""The sizes Janus comes in (`janus/presets/*.toml`), as configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig, PretrainedConfig

from janus.model.config import make_config
from janus.presets import NAMES, read_preset


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


def _preset(name: str) -> Preset:
    table = read_preset(name)
    text, vision, vq = (table.get(part, {}) for part in ("text", "vision", "vq"))
    return Preset(name, text, vision, vq, vocab_size=table["vocab_size"], style=table["style"])


PRESETS = {name: _preset(name) for name in NAMES}


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
