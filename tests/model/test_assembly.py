"""A Janus put together from a language model, an image encoder and a VQ tokenizer made by transformers itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import (
    Dinov2Config,
    Dinov2Model,
    JanusForConditionalGeneration,
    JanusVQVAE,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.janus.configuration_janus import JanusVQVAEConfig

from janus.assemble import main
from janus.model.assembly import assemble
from janus.model.checkpoints.model_folder import load_janus
from janus.model.network import MODULES, Janus
from janus.model.presets import preset_config
from tests.model.toy import SIDE, VOCABULARY, toy_tokenizer

LLM = {
    "vocab_size": 256 + 3,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
}
VQ = JanusVQVAEConfig(num_embeddings=96, latent_channels=32, base_channels=32, num_res_blocks=1, num_patches=4)


def plain_tokenizer() -> PreTrainedTokenizerFast:
    """A language model's tokenizer: bytes, BOS, EOS and one more, no image tokens and no padding."""
    tokenizer = Tokenizer.from_str(toy_tokenizer().backend_tokenizer.to_str())
    fresh = Tokenizer(tokenizer.model)
    fresh.pre_tokenizer, fresh.decoder = tokenizer.pre_tokenizer, tokenizer.decoder
    fresh.add_special_tokens(["<s>", "</s>", "<other>"])
    return PreTrainedTokenizerFast(tokenizer_object=fresh, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders and a file as one downloads them."""
    root = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    models = {
        "llama": LlamaForCausalLM(LlamaConfig(**LLM)),
        "qwen3": Qwen3ForCausalLM(Qwen3Config(**(LLM | {"tie_word_embeddings": True}))),
        "siglip": SiglipVisionModel(SiglipVisionConfig(**SIGLIP)),
        "siglip-full": SiglipModel(SiglipConfig(vision_config=SIGLIP, text_config=SIGLIP)),
        "dinov2": Dinov2Model(
            Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=16)
        ),
    }
    for name, model in models.items():
        model.save_pretrained(root / name)
    for name in ("llama", "qwen3"):
        plain_tokenizer().save_pretrained(root / name)
    vq = JanusVQVAE(VQ)
    official = {_official(name): tensor for name, tensor in vq.state_dict().items()}
    torch.save({"model": official | {"quantize.codebook_used": torch.zeros(65536)}}, root / "vq.pt")
    return {name: root / name for name in models} | {"vq": root / "vq.pt"}


def _official(name: str) -> str:
    for ours, theirs in (
        (".down.", ".conv_blocks."),
        (".up.", ".conv_blocks."),
        (".block.", ".res."),
        (".mid.block_1.", ".mid.0."),
        (".mid.attn_1.", ".mid.1."),
        (".mid.block_2.", ".mid.2."),
    ):
        name = name.replace(ours, theirs)
    return name


@torch.no_grad()
def test_every_part_computes_what_it_did_alone(parts: dict[str, Path]) -> None:
    assembly = assemble(preset="janus-1.3b", llm=parts["llama"], vision=parts["siglip"], vq=parts["vq"])
    model, processor = assembly.model, assembly.processor
    ids = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(1))
    llama = LlamaForCausalLM.from_pretrained(parts["llama"])
    found = model(input_ids=ids).logits
    torch.testing.assert_close(found[..., : LLM["vocab_size"]], llama(input_ids=ids).logits, rtol=1e-5, atol=1e-5)

    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    siglip = SiglipVisionModel.from_pretrained(parts["siglip"])
    for layer in siglip.encoder.layers:
        layer.mlp.activation_fn = torch.nn.GELU()  # what DeepSeek's code computes
    expected = siglip(pixels).last_hidden_state
    torch.testing.assert_close(model.model.vision_model(pixels).last_hidden_state, expected, rtol=1e-5, atol=1e-5)

    codebook = model.model.vqmodel.quantize.embedding.weight
    torch.testing.assert_close(model.model.generation_embeddings.weight, F.normalize(codebook, dim=-1))
    assert model.model.generation_head.vision_head.out_features == 96
    assert processor.generation_tokens == processor.understanding_tokens == 16
    ids = {processor.bos_id, processor.eos_id, processor.pad_id, processor.boi_id, processor.eoi_id, processor.image_id}
    assert len(ids) == 6
    assert processor.tokenizer.convert_ids_to_tokens([processor.bos_id, processor.eos_id]) == ["<s>", "</s>"]
    assert len(assembly.added_tokens) == 4


@torch.no_grad()
def test_new_rows_look_like_the_old_ones(parts: dict[str, Path]) -> None:
    model = assemble(preset="janus-1.3b", llm=parts["llama"], vision=parts["siglip"], vq=parts["vq"]).model
    llama = LlamaForCausalLM.from_pretrained(parts["llama"])
    for mine, theirs in (
        (model.get_input_embeddings().weight, llama.get_input_embeddings().weight),
        (model.lm_head.weight, llama.lm_head.weight),
    ):
        have = len(theirs)
        assert torch.equal(mine[:have], theirs)
        new = mine[have:]
        assert len(new) == 4
        assert len(new.unique(dim=0)) == 4
        assert 0.5 < (new.std() / theirs.std()).item() < 2


def test_a_whole_siglip_gives_its_vision_tower(parts: dict[str, Path]) -> None:
    model = assemble(preset="janus-1.3b", llm=parts["llama"], vision=parts["siglip-full"], vq=parts["vq"]).model
    theirs = SiglipModel.from_pretrained(parts["siglip-full"]).vision_model.state_dict()
    patch = "embeddings.patch_embedding.weight"
    assert torch.equal(model.model.vision_model.state_dict()[patch], theirs[patch])


@torch.no_grad()
def test_a_tied_qwen3_becomes_an_untied_janus(
    parts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--llm", parts["qwen3"], "--vision", parts["siglip"], "--vq", parts["vq"], "--out", tmp_path / "janus"]
    monkeypatch.setattr(sys, "argv", ["assemble", *map(str, arguments)])
    main()
    qwen = Qwen3ForCausalLM.from_pretrained(parts["qwen3"])
    ids = torch.randint(0, 256, (1, 7), generator=torch.Generator().manual_seed(3))
    # Its vision encoder and VQ are the published kind, so plain transformers opens it, whatever the LLM.
    for model in (load_janus(tmp_path / "janus")[0], JanusForConditionalGeneration.from_pretrained(tmp_path / "janus")):
        assert model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()
        found = model(input_ids=ids).logits[..., : LLM["vocab_size"]]
        torch.testing.assert_close(found, qwen(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_another_vision_encoder_is_taken_and_named(
    parts: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ["--llm", parts["llama"], "--vision", parts["dinov2"], "--vq", parts["vq"], "--out", tmp_path / "janus"]
    monkeypatch.setattr(sys, "argv", ["assemble", *map(str, arguments)])
    main()
    said = " ".join(capsys.readouterr().err.split())
    assert "not a plain Hugging Face Janus: vision encoder dinov2" in said
    model, processor = load_janus(tmp_path / "janus")
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    patches = Dinov2Model.from_pretrained(parts["dinov2"])(pixels).last_hidden_state[:, 1:]  # no class token
    torch.testing.assert_close(model.image_features(pixels), model.model.aligner(patches), rtol=1e-5, atol=1e-5)
    assert processor.understanding_tokens == 16


def test_the_card_adds_up(parts: dict[str, Path]) -> None:
    assembly = assemble(preset="janus-1.3b", llm=parts["llama"], vision=parts["siglip"], vq=parts["vq"])
    assert [line.part for line in assembly.card] == list(MODULES)
    assert sum(line.parameters for line in assembly.card) == sum(p.numel() for p in assembly.model.parameters())
    sources = {line.part: line.source for line in assembly.card}
    assert sources["llm"] == sources["text_head"] == str(parts["llama"])
    assert sources["understanding_encoder"] == str(parts["siglip"])
    assert sources["vq"] == str(parts["vq"])
    assert {sources[name] for name in ("understanding_adaptor", "generation_adaptor", "image_head")} == {"random"}


def test_the_full_size_card_has_the_published_numbers() -> None:
    with torch.device("meta"):
        model = Janus(preset_config("janus-1.3b", image_token_id=0))
    sizes = {name: sum(p.numel() for p in model.get_submodule(path).parameters()) for name, path in MODULES.items()}
    assert sum(sizes.values()) == 2_076_636_811
    stage_1 = sizes["understanding_adaptor"] + sizes["generation_adaptor"] + sizes["image_head"]
    assert stage_1 == 48_277_504
    assert sizes["code_embedding"] == 131_072
    assert sizes["understanding_encoder"] == 303_688_704


def test_the_seed_decides_what_is_random(parts: dict[str, Path]) -> None:
    arguments = {"preset": "janus-1.3b", "llm": parts["llama"], "vision": parts["siglip"], "vq": parts["vq"]}
    first, again, other = (assemble(**arguments, seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.aligner.fc1.weight"], other["model.aligner.fc1.weight"])


def test_a_tiny_one_can_be_all_random(parts: dict[str, Path]) -> None:
    assembly = assemble(preset="tiny", tokenizer=parts["llama"])
    assert {line.source for line in assembly.card} == {"random", "the VQ codebook"}
    assert assembly.model.config.text_config.vocab_size == 256 + 3 + 4 <= VOCABULARY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no tokenizer"),
        ({"llm": "siglip"}, "tokenizer.json: not found"),
        ({"tokenizer": "llama", "llm": "siglip"}, "siglip: not a causal language model"),
        ({"llm": "llama", "vision": "llama"}, "llama: a llama is not a plain image encoder"),
        ({"llm": "llama", "vq": "llama"}, "model_type 'llama' is not a Janus"),
        ({"llm": "llama", "vision": "nowhere"}, "config.json: not found"),
    ],
)
def test_wrong_parts_are_one_line(parts: dict[str, Path], arguments: dict[str, str], message: str) -> None:
    folders = {name: parts.get(value, Path(value)) for name, value in arguments.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        assemble(preset="janus-1.3b", **folders)
