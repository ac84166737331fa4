"""Whole folders between the two layouts, through the command a person runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, JanusForConditionalGeneration

from janus.export import main
from janus.model.checkpoints.convert import read_checkpoint
from janus.model.checkpoints.deepseek import tensors_to_deepseek
from janus.model.checkpoints.model_folder import load_janus, save_janus
from janus.model.config import PATCH_VQ, make_config
from janus.model.network import Janus
from janus.model.vq import encode_codes
from tests.model.toy import GRID, IMG, SIDE, toy_config, toy_janus, toy_processor

CODEBOOK = "model.vqmodel.quantize.embedding.weight"


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "hf"
    save_janus(folder, *toy_janus())
    return folder


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command; returns what it says."""

    def run(folder: Path, to: str, out: Path) -> str:
        monkeypatch.setattr(sys, "argv", ["export", str(folder), "--to", to, "--out", str(out)])
        main()
        return " ".join(capsys.readouterr().err.split())

    return run


@pytest.fixture
def deepseek_folder(hf_folder: Path, tmp_path: Path, export) -> Path:
    """A folder as DeepSeek publishes them: unused tensors full of numbers, codebook rows of any length."""
    folder = tmp_path / "deepseek"
    export(hf_folder, "deepseek", folder)
    (folder / "SHA256SUMS").unlink()  # theirs have none
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(9)
    for name in tensors:
        if "attn_pool" in name or "codebook_used" in name:
            tensors[name] = torch.randn(tensors[name].shape, generator=generator)
    codebook = tensors["gen_vision_model.quantize.embedding.weight"]
    tensors["gen_vision_model.quantize.embedding.weight"] = codebook * torch.linspace(0.7, 1.4, len(codebook))[:, None]
    save_file(tensors, folder / "model.safetensors")
    return folder


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_hf_to_deepseek_to_hf_is_byte_identical(hf_folder: Path, tmp_path: Path, export) -> None:
    said = export(hf_folder, "deepseek", tmp_path / "there")
    assert "pooling head" in said
    assert "cannot open these sizes" in said
    config = json.loads((tmp_path / "there" / "config.json").read_text())
    assert config["model_type"] == "multi_modality"
    assert export(tmp_path / "there", "hf", tmp_path / "back").startswith("wrote")
    before, after = (load_file(folder / "model.safetensors") for folder in (hf_folder, tmp_path / "back"))
    assert same(before, after)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_deepseek_to_hf_to_deepseek_is_byte_identical(deepseek_folder: Path, tmp_path: Path, export, kind: str) -> None:
    original = load_file(deepseek_folder / "model.safetensors")
    _rewrite(deepseek_folder, original, kind)
    said = export(deepseek_folder, "hf", tmp_path / "ours")
    assert "norms from 0.7 to 1.4" in said
    export(tmp_path / "ours", "deepseek", tmp_path / "back")
    assert same(load_file(tmp_path / "back" / "model.safetensors"), original)


def _rewrite(folder: Path, tensors: dict[str, torch.Tensor], kind: str) -> None:
    (folder / "model.safetensors").unlink()
    suffix, name = (".bin", "pytorch_model") if kind.endswith("bin") else (".safetensors", "model")
    parts = [list(tensors)[0::2], list(tensors)[1::2]] if kind.startswith("sharded") else [list(tensors)]
    weight_map = {}
    for number, names in enumerate(parts, start=1):
        file = f"{name}-{number:05}-of-00002{suffix}" if len(parts) > 1 else f"{name}{suffix}"
        part = {key: tensors[key] for key in names}
        torch.save(part, folder / file) if suffix == ".bin" else save_file(part, folder / file)
        weight_map |= dict.fromkeys(names, file)
    if len(parts) > 1:
        (folder / f"{name}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@torch.no_grad()
def test_an_imported_folder_encodes_officially_in_plain_transformers(
    deepseek_folder: Path, tmp_path: Path, export
) -> None:
    """Trap: without normalised rows transformers' `encode` gives other codes. The reference is the official rule."""
    export(deepseek_folder, "hf", tmp_path / "ours")
    theirs, loading = JanusForConditionalGeneration.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(loading.values())
    vq = theirs.model.vqmodel
    pixels = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    raw = load_file(deepseek_folder / "model.safetensors")["gen_vision_model.quantize.embedding.weight"]
    latents = F.normalize(vq.quant_conv(vq.encoder(pixels)).permute(0, 2, 3, 1).reshape(-1, 8), dim=-1)
    official = (latents @ F.normalize(raw, dim=-1).T).argmax(-1)
    assert torch.equal(vq.encode(pixels).image_tokens, official)
    assert torch.equal(encode_codes(vq, pixels).flatten(), official)
    decoded = vq.decode(official.view(3, -1))
    vq.quantize.embedding.weight.copy_(raw)
    naive = vq.encode(pixels).image_tokens
    assert (naive == official).float().mean() < 0.9
    torch.testing.assert_close(vq.decode(official.view(3, -1)), decoded, rtol=1e-5, atol=1e-5)


def test_a_retrained_codebook_wins_over_the_kept_original(deepseek_folder: Path, tmp_path: Path, export) -> None:
    ours = tmp_path / "ours"
    export(deepseek_folder, "hf", ours)
    (ours / "SHA256SUMS").unlink()
    tensors = load_file(ours / "model.safetensors")
    changed = F.normalize(tensors[CODEBOOK].flip(0), dim=-1)
    save_file(tensors | {CODEBOOK: changed}, ours / "model.safetensors", metadata={"format": "pt"})
    export(ours, "deepseek", tmp_path / "back")
    found = load_file(tmp_path / "back" / "model.safetensors")["gen_vision_model.quantize.embedding.weight"]
    assert torch.equal(found, changed)


@torch.no_grad()
def test_an_imported_model_computes_what_the_original_did(hf_folder: Path, tmp_path: Path, export) -> None:
    export(hf_folder, "deepseek", tmp_path / "there")
    export(tmp_path / "there", "hf", tmp_path / "back")
    (before, _), (after, processor) = load_janus(hf_folder), load_janus(tmp_path / "back")
    ids = torch.randint(0, 250, (1, 12), generator=torch.Generator().manual_seed(0))
    assert torch.equal(before(input_ids=ids).logits, after(input_ids=ids).logits)
    assert processor.image_id == IMG
    assert processor.generation_tokens == GRID**2
    assert processor.encode("déjà vu <|x|>") == toy_processor(toy_config()).encode("déjà vu <|x|>")


def test_janus_pro_keeps_its_speakers(tmp_path: Path, export) -> None:
    model, processor = toy_janus()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|User|>", "<|Assistant|>"]})
    pro = type(processor).from_config(model.config, processor.tokenizer, style="janus-pro")
    save_janus(tmp_path / "pro", model, pro)
    export(tmp_path / "pro", "deepseek", tmp_path / "there")
    assert read_checkpoint(tmp_path / "there").processor.style == "janus-pro"


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    config = toy_config()
    vq = config.vq_config
    vq.architecture, vq.patch_size = PATCH_VQ, SIDE // GRID
    config = make_config(text=config.text_config, vision=config.vision_config, vq=vq, image_token_id=IMG)
    save_janus(tmp_path / "foreign", Janus(config), toy_processor(config))
    return tmp_path / "foreign"


def test_a_foreign_part_is_named(foreign_folder: Path, tmp_path: Path, export) -> None:
    said = export(foreign_folder, "hf", tmp_path / "copy")
    assert "not a plain Hugging Face Janus: VQ tokenizer patch" in said
    model, _ = load_janus(tmp_path / "copy")
    assert type(model.model.vqmodel).__name__ == "PatchVQ"
    with pytest.raises(ValueError, match="cannot hold this model: VQ tokenizer patch"):
        export(foreign_folder, "deepseek", tmp_path / "there")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("janus_forge", ["Janus"])
    with pytest.raises(ValueError, match="janus_forge"):
        AutoConfig.from_pretrained(tmp_path / "copy")


def test_pickled_code_is_refused(deepseek_folder: Path, tmp_path: Path, export) -> None:
    class Harmful:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "owned",))

    (deepseek_folder / "model.safetensors").unlink()
    torch.save({"x": Harmful()}, deepseek_folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors"):
        export(deepseek_folder, "hf", tmp_path / "ours")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: not found"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: not found"),
        (lambda folder: _add(folder, "vision_gen_enc.x"), "vision_gen_enc.x: not part of a DeepSeek Janus"),
        (lambda folder: _add(folder, "language_model.model.layers.9.mlp.up_proj.weight"), "1 unexpected"),
    ],
)
def test_damage_is_one_line(deepseek_folder: Path, tmp_path: Path, export, damage, message: str) -> None:
    damage(deepseek_folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export(deepseek_folder, "hf", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def _add(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.zeros(2)}, folder / "model.safetensors")


def test_the_source_is_not_overwritten(hf_folder: Path, export) -> None:
    with pytest.raises(ValueError, match="is the folder being read"):
        export(hf_folder, "hf", hf_folder)


def test_unused_tensors_have_the_layouts_shapes() -> None:
    with torch.device("meta"):
        unused = tensors_to_deepseek(JanusForConditionalGeneration(toy_config()).state_dict(), {})
    pool = {name.rsplit("attn_pool.")[1]: tuple(t.shape) for name, t in unused.items() if "attn_pool" in name}
    assert len(pool) == 13
    assert pool["latent"] == (1, 1, 32)
    assert pool["kv.weight"] == (64, 32)
