"""The sizes Janus comes in."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3Config

from janus.model.network import Janus
from janus.model.presets import PRESETS, preset_config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("janus-1.3b", 2_076_636_811), ("janus-pro-1b", 2_076_636_811), ("janus-pro-7b", 7_407_773_323)],
)
def test_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = Janus(preset_config(name, image_token_id=0))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.config.tie_word_embeddings is False
    assert model.config.vq_config.num_patches**2 == model.config.vision_config.num_image_tokens == 576


def test_tiny_trains_on_a_cpu() -> None:
    model = Janus(preset_config("tiny", image_token_id=0, tokenizer_size=300))
    assert sum(parameter.numel() for parameter in model.parameters()) < 5_000_000
    assert (
        model.config.vision_config.image_size == model.config.vq_config.num_patches * model.config.vq_config.patch_size
    )
    assert model.config.text_config.vocab_size == 300


def test_a_part_of_ones_own_replaces_the_presets() -> None:
    text = Qwen3Config(vocab_size=100, hidden_size=96, num_hidden_layers=1, num_attention_heads=2)
    config = preset_config("tiny", image_token_id=7, tokenizer_size=120, text=text)
    assert (config.text_config.model_type, config.text_config.vocab_size, config.image_token_id) == ("qwen3", 120, 7)
    assert config.vision_config.projection_dim == config.vq_config.projection_dim == 96


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match=r"preset 'janus-70b': expected one of janus-1\.3b, janus-pro-1b"):
        preset_config("janus-70b", image_token_id=0)
    assert set(PRESETS) == {"janus-1.3b", "janus-pro-1b", "janus-pro-7b", "mini", "tiny"}
