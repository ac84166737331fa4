"""Parts by configuration: published sizes, other language models, other vision encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2WithRegistersConfig,
    GPTNeoXConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
    SiglipVisionConfig,
)

from janus.model.checkpoints.model_folder import open_model
from janus.model.config import JanusForgeConfig, config_from_dict, foreign_parts, make_config
from janus.model.network import MODULES, Janus
from tests.model.packs import generation as generation_document
from tests.model.packs import pack
from tests.model.packs import text as text_document
from tests.model.packs import understanding as understanding_document
from tests.model.toy import IMG, VOCABULARY, toy_config


def small_llm() -> PretrainedConfig:
    return toy_config().text_config


def small_vision() -> JanusVisionConfig:
    return toy_config().vision_config


def small_vq() -> JanusVQVAEConfig:
    return toy_config().vq_config


def full_size() -> JanusConfig:
    llm = LlamaConfig(
        vocab_size=102400,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=16384,
    )
    return make_config(text=llm, vision=JanusVisionConfig(), vq=JanusVQVAEConfig(), image_token_id=100581)


def test_full_size_counts_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = Janus(full_size())
    sizes = {name: sum(p.numel() for p in model.get_submodule(path).parameters()) for name, path in MODULES.items()}
    assert sizes == {
        "understanding_encoder": 303_688_704,
        "understanding_adaptor": 6_295_552,
        "vq": 71_883_403,
        "code_embedding": 131_072,
        "generation_adaptor": 4_214_784,
        "image_head": 37_767_168,
        "llm": 1_442_940_928,
        "text_head": 209_715_200,
    }
    assert sum(sizes.values()) == 2_076_636_811 == sum(p.numel() for p in model.parameters())
    stage_1 = sum(sizes[name] for name in ("understanding_adaptor", "generation_adaptor", "image_head"))
    assert stage_1 == 48_277_504


def test_trap_2_the_text_head_is_never_tied() -> None:
    config = toy_config()
    config.tie_word_embeddings = True  # what a JanusConfig says when nobody says otherwise
    model = Janus(config)
    model.tie_weights()
    assert model.lm_head.weight is not model.get_input_embeddings().weight
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
    assert model.config.tie_word_embeddings is False
    assert JanusConfig().tie_word_embeddings is True  # the default of transformers that makes this a trap


def test_state_dict_is_that_of_transformers() -> None:
    ours, theirs = Janus(toy_config()).state_dict(), JanusForConditionalGeneration(toy_config()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_the_vq_tokenizer_is_frozen_and_stays_in_evaluation_mode() -> None:
    model = Janus(toy_config()).train()
    assert model.training
    assert not model.model.vqmodel.training
    assert not any(p.requires_grad for p in model.model.vqmodel.parameters())


def qwen3() -> PretrainedConfig:
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
    )


def gpt_neox() -> PretrainedConfig:
    return GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4
    )


def siglip2() -> PretrainedConfig:
    """SigLIP 2 checkpoints of fixed resolution have SigLIP's architecture."""
    return SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16
    )


def dinov2() -> PretrainedConfig:
    return Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16)


def dinov2_registers() -> PretrainedConfig:
    return Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16, num_register_tokens=4
    )


@pytest.mark.parametrize(
    ("llm", "vision", "foreign"),
    [
        (qwen3, small_vision, []),
        (gpt_neox, small_vision, []),
        (small_llm, siglip2, ["siglip_vision_model"]),
        (qwen3, dinov2, ["dinov2"]),
        (small_llm, dinov2_registers, ["dinov2_with_registers"]),
    ],
    ids=["qwen3", "gpt-neox", "siglip2", "qwen3+dinov2", "dinov2-registers"],
)
def test_other_parts_train_by_configuration_alone(llm, vision, foreign: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = make_config(text=llm(), vision=vision(), vq=small_vq(), image_token_id=IMG)
    assert [part.split()[2] for part in foreign_parts(config)] == foreign
    assert type(config) is (JanusForgeConfig if foreign else JanusConfig)
    config.save_pretrained(tmp_path)
    config = open_model(tmp_path).config
    assert [part.split()[2] for part in foreign_parts(config)] == foreign

    torch.manual_seed(0)
    model = Janus(config).train()
    batch = pack([[understanding_document(5, 1), text_document(7, 2), generation_document(4, 3)]], 64)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(6):
        result = model.packed_loss(batch)
        loss = result.sums.sum() / result.counts.sum()
        loss.backward()
        untouched = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not untouched
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5, losses


def test_class_and_register_tokens_are_left_out() -> None:
    config = make_config(text=small_llm(), vision=dinov2_registers(), vq=small_vq(), image_token_id=IMG)
    model = Janus(config).eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    features = model.image_features(pixels)
    assert features.shape == (2, 16, 64)
    everything = model.model.vision_model(pixels.permute(0, 3, 1, 2) / 127.5 - 1).last_hidden_state
    assert everything.shape[1] == 1 + 4 + 16
    torch.testing.assert_close(features, model.model.aligner(everything[:, 5:]), rtol=1e-4, atol=1e-5)


def test_a_patch_grid_unlike_the_code_grid_survives_the_file(tmp_path: Path) -> None:
    """A 14-px encoder at 112 px: 64 image tokens, but 49 codes; JanusConfig alone would make them 64."""
    vision = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=112, patch_size=14)
    config = make_config(text=small_llm(), vision=vision, vq=small_vq(), image_token_id=IMG)
    assert (config.vision_config.num_image_tokens, config.vq_config.num_patches) == (64, 7)
    config.save_pretrained(tmp_path)
    config = open_model(tmp_path).config
    assert (config.vision_config.num_image_tokens, config.vq_config.num_patches) == (64, 7)


def test_sizes_that_do_not_tile_are_refused() -> None:
    odd = JanusVisionConfig(image_size=60, patch_size=16)
    with pytest.raises(ValueError, match="60 is not a multiple of the vision encoder's patch size 16"):
        make_config(text=small_llm(), vision=odd, vq=small_vq(), image_token_id=IMG)
    odd = Dinov2Config(image_size=70, patch_size=14)
    with pytest.raises(ValueError, match="70 is not a multiple of 16"):
        make_config(text=small_llm(), vision=odd, vq=small_vq(), image_token_id=IMG)


def test_an_unknown_model_type_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"model_type 'llama' is not a Janus"):
        config_from_dict({"model_type": "llama"})
    config = toy_config()
    config.vq_config.architecture = "mystery"
    with pytest.raises(ValueError, match="'mystery'; known are 'patch' and none"):
        Janus(config)
