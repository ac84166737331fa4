"""DeepSeek's layout against names, counts and a forward pass written down independently of the converter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import JanusForConditionalGeneration

from janus.model.checkpoints.deepseek import (
    config_to_deepseek,
    config_to_hf,
    is_published_shape,
    tensors_to_deepseek,
    tensors_to_hf,
    to_deepseek_name,
    to_hf_name,
)
from janus.model.presets import preset_config
from tests.model.toy import BOS, EOS, IMG, PAD, loud, toy_config

NAMES = [  # from the published checkpoint's index and transformers' module tree
    ("vision_model.vision_tower.pos_embed", "model.vision_model.embeddings.position_embedding.weight"),
    ("vision_model.vision_tower.patch_embed.proj.bias", "model.vision_model.embeddings.patch_embedding.bias"),
    ("vision_model.vision_tower.blocks.11.norm1.weight", "model.vision_model.encoder.layers.11.layer_norm1.weight"),
    (
        "vision_model.vision_tower.blocks.3.attn.proj.weight",
        "model.vision_model.encoder.layers.3.self_attn.projection_layer.weight",
    ),
    ("vision_model.vision_tower.blocks.3.mlp.fc2.bias", "model.vision_model.encoder.layers.3.mlp.fc2.bias"),
    ("vision_model.vision_tower.norm.weight", "model.vision_model.post_layernorm.weight"),
    ("aligner.layers.0.weight", "model.aligner.fc1.weight"),
    ("aligner.layers.2.bias", "model.aligner.hidden_layers.0.bias"),
    (
        "gen_vision_model.encoder.conv_blocks.1.res.0.conv1.weight",
        "model.vqmodel.encoder.down.1.block.0.conv1.weight",
    ),
    (
        "gen_vision_model.encoder.conv_blocks.0.downsample.conv.bias",
        "model.vqmodel.encoder.down.0.downsample.conv.bias",
    ),
    (
        "gen_vision_model.encoder.conv_blocks.2.res.0.nin_shortcut.weight",
        "model.vqmodel.encoder.down.2.block.0.nin_shortcut.weight",
    ),
    ("gen_vision_model.encoder.mid.1.proj_out.weight", "model.vqmodel.encoder.mid.attn_1.proj_out.weight"),
    ("gen_vision_model.decoder.conv_blocks.0.attn.2.q.weight", "model.vqmodel.decoder.up.0.attn.2.q.weight"),
    ("gen_vision_model.decoder.mid.2.norm1.weight", "model.vqmodel.decoder.mid.block_2.norm1.weight"),
    ("gen_vision_model.quantize.embedding.weight", "model.vqmodel.quantize.embedding.weight"),
    ("gen_vision_model.post_quant_conv.bias", "model.vqmodel.post_quant_conv.bias"),
    ("gen_aligner.layers.2.weight", "model.generation_aligner.hidden_layers.0.weight"),
    ("gen_embed.weight", "model.generation_embeddings.weight"),
    ("gen_head.output_mlp_projector.bias", "model.generation_head.proj_out.bias"),
    ("gen_head.vision_head.weight", "model.generation_head.vision_head.weight"),
    ("language_model.model.layers.7.self_attn.o_proj.weight", "model.language_model.layers.7.self_attn.o_proj.weight"),
    ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
    ("language_model.lm_head.weight", "lm_head.weight"),
]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return loud(JanusForConditionalGeneration(toy_config()))


@pytest.fixture(scope="module")
def official(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The model in DeepSeek's layout, its unused tensors filled with noise."""
    tensors = tensors_to_deepseek(model.state_dict(), {})
    generator = torch.Generator().manual_seed(3)
    unused = [name for name in tensors if "attn_pool" in name or "codebook_used" in name]
    assert len(unused) == 14
    return tensors | {name: torch.randn(tensors[name].shape, generator=generator) for name in unused}


@pytest.mark.parametrize(("theirs", "ours"), NAMES)
def test_names(theirs: str, ours: str) -> None:
    assert to_hf_name(theirs) == ours
    assert to_deepseek_name(ours) == theirs


def test_deepseek_to_ours_and_back_is_byte_identical(official: dict[str, torch.Tensor]) -> None:
    tensors, extras = tensors_to_hf(official)
    back = tensors_to_deepseek(tensors, extras)
    assert back.keys() == official.keys()
    for name, tensor in official.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor), name


def test_ours_to_deepseek_and_back_is_byte_identical(model: torch.nn.Module) -> None:
    expected = model.state_dict()
    tensors, _ = tensors_to_hf(tensors_to_deepseek(expected, {}))
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor), name


@torch.no_grad()
def test_the_official_vision_tower_gives_the_same_features(
    model: torch.nn.Module, official: dict[str, torch.Tensor]
) -> None:
    """timm's ViT forward on the converted tensors: a wrong qkv order or a lost position table would show."""
    weights = {name.removeprefix("vision_model.vision_tower."): tensor for name, tensor in official.items()}
    heads = model.config.vision_config.num_attention_heads

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    x = F.conv2d(pixels, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2) + weights["pos_embed"]
    for block in range(model.config.vision_config.num_hidden_layers):
        here = f"blocks.{block}"
        count, tokens, width = x.shape
        qkv = linear(norm(x, f"{here}.norm1"), f"{here}.attn.qkv")
        q, k, v = qkv.reshape(count, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, tokens, width)
        x = x + linear(attended, f"{here}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"{here}.norm2"), f"{here}.mlp.fc1")), f"{here}.mlp.fc2")
    expected = model.model.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(norm(x, "norm"), expected, rtol=1e-5, atol=1e-5)


def test_the_full_size_layout_has_the_published_number_of_weights() -> None:
    """2,089,232,011 weights measured on Janus-Pro-1B by a third party: the pooling head is stored, lm_head untied."""
    with torch.device("meta"):
        model = JanusForConditionalGeneration(preset_config("janus-pro-1b", image_token_id=0))
        tensors = tensors_to_deepseek(model.state_dict(), {})
    counter = tensors.pop("gen_vision_model.quantize.codebook_used")
    assert counter.shape == (65536,)
    assert sum(tensor.numel() for tensor in tensors.values()) == 2_089_232_011
    assert is_published_shape(model.config)


def test_configuration_survives_both_ways(model: torch.nn.Module) -> None:
    theirs = config_to_deepseek(model.config, torch.float32)
    assert theirs["model_type"] == "multi_modality"
    assert not is_published_shape(model.config)
    ours = config_to_hf(
        theirs, model.state_dict(), image_token_id=IMG, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD
    )
    for part in ("text_config", "vision_config", "vq_config"):
        expected, found = getattr(model.config, part).to_dict(), getattr(ours, part).to_dict()
        for volatile in ("dtype", "torch_dtype", "_name_or_path", "transformers_version"):
            expected.pop(volatile, None), found.pop(volatile, None)
        expected, found = ({k: list(v) if isinstance(v, tuple) else v for k, v in d.items()} for d in (expected, found))
        assert found == expected
    assert (ours.image_token_id, ours.tie_word_embeddings) == (IMG, False)


def test_a_foreign_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"vision_gen_enc.x: not part of a DeepSeek Janus"):
        to_hf_name("vision_gen_enc.x")
    with pytest.raises(ValueError, match="has no place for it"):
        to_deepseek_name("model.audio_encoder.weight")
