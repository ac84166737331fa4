"""Either layout, any precision: the same model, the same codes, the same fingerprints, whichever folder is opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from janus.model.checkpoints.convert import cast, read_checkpoint, write_deepseek, write_hf
from janus.model.checkpoints.fingerprint import fingerprints
from janus.model.checkpoints.model_folder import load_janus, load_vq, open_model, save_janus
from janus.model.codebook import CODEBOOK
from janus.model.inference.sampling import codes_to_images
from janus.model.vq import decode_codes, encode_codes
from tests.model import official_vq
from tests.model.toy import GRID, SIDE, toy_janus

THEIR_CODEBOOK = "gen_vision_model.quantize.embedding.weight"


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    coarse = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16, torch.float32], ids=["bf16", "fp16", "fp32"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder as DeepSeek publishes them, codebook rows of any length, all in one type; and its import."""
    base = tmp_path_factory.mktemp("models")
    save_janus(base / "made", *toy_janus())
    write_deepseek(read_checkpoint(base / "made"), base / "deepseek")
    (base / "deepseek" / "SHA256SUMS").unlink()  # theirs have none
    file = base / "deepseek" / "model.safetensors"
    tensors = load_file(file)
    tensors[THEIR_CODEBOOK] = tensors[THEIR_CODEBOOK] * torch.linspace(0.7, 1.4, 128)[:, None]
    save_file({name: tensor.to(request.param) for name, tensor in tensors.items()}, file)
    config = json.loads((base / "deepseek" / "config.json").read_text())
    config["language_config"]["torch_dtype"] = str(request.param).removeprefix("torch.")
    (base / "deepseek" / "config.json").write_text(json.dumps(config))
    write_hf(read_checkpoint(base / "deepseek"), base / "hf")
    return base / "deepseek", base / "hf"


@pytest.mark.parametrize("layout", [0, 1], ids=["deepseek", "hf"])
def test_codes_are_the_official_ones_of_the_rows_as_stored(
    folders: tuple[Path, Path], pixels: torch.Tensor, layout: int
) -> None:
    """All of them, in every precision: the reference is the official rule on the stored values, in float32."""
    stored = {
        name.removeprefix("gen_vision_model."): tensor.float()
        for name, tensor in load_file(folders[0] / "model.safetensors").items()
        if name.startswith("gen_vision_model.")
    }
    expected = official_vq.encode(stored, pixels)
    assert len(expected.unique()) > 30
    vq = load_vq(folders[layout])
    assert torch.equal(encode_codes(vq, pixels), expected)
    images = official_vq.decode(stored, expected[:1]).clamp(-1, 1)
    torch.testing.assert_close(decode_codes(vq, expected[:1]), images, rtol=0, atol=1e-4)


def test_the_codebook_is_kept_as_stored_beside_its_unit_rows(folders: tuple[Path, Path]) -> None:
    stored = load_file(folders[0] / "model.safetensors")
    imported = load_file(folders[1] / "model.safetensors")
    assert imported[CODEBOOK].dtype == torch.float32
    torch.testing.assert_close(
        imported[CODEBOOK], F.normalize(stored[THEIR_CODEBOOK].float(), dim=-1), rtol=0, atol=2e-7
    )
    extras = load_file(folders[1] / "deepseek_extras.safetensors")
    assert torch.equal(extras[THEIR_CODEBOOK], stored[THEIR_CODEBOOK])
    assert imported["lm_head.weight"].dtype == stored["language_model.lm_head.weight"].dtype


def test_the_way_back_gives_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_deepseek(read_checkpoint(folders[1]), tmp_path / "back")
    before, after = (load_file(folder / "model.safetensors") for folder in (folders[0], tmp_path / "back"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name


def test_an_hf_folder_with_rows_as_stored_is_mended_by_an_export(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The conversion script of transformers leaves the rows as DeepSeek stores them."""
    raw = shutil.copytree(folders[1], tmp_path / "raw")
    (raw / "deepseek_extras.safetensors").unlink()
    (raw / "SHA256SUMS").unlink()
    stored = load_file(folders[0] / "model.safetensors")[THEIR_CODEBOOK]
    tensors = load_file(folders[1] / "model.safetensors")
    save_file(tensors | {CODEBOOK: stored}, raw / "model.safetensors", metadata={"format": "pt"})
    assert fingerprints(raw, "jpeg") == fingerprints(folders[1], "jpeg")
    assert any(
        "the codebook's rows had norms from" in note for note in write_hf(read_checkpoint(raw), tmp_path / "mended")
    )
    assert torch.equal(load_file(tmp_path / "mended" / "model.safetensors")[CODEBOOK], tensors[CODEBOOK])
    write_deepseek(read_checkpoint(raw), tmp_path / "back")
    assert torch.equal(load_file(tmp_path / "back" / "model.safetensors")[THEIR_CODEBOOK], stored)


def test_both_layouts_have_one_fingerprint(folders: tuple[Path, Path]) -> None:
    """So a corpus tokenized with either trains a model loaded from the other."""
    assert fingerprints(folders[0], "jpeg") == fingerprints(folders[1], "jpeg")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_layouts_load_as_one_model(folders: tuple[Path, Path], dtype: torch.dtype) -> None:
    (ours, processor), (theirs, other) = (load_janus(folder, dtype=dtype) for folder in folders)
    assert processor.tokenizer_identity() == other.tokenizer_identity()
    left, right = ours.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert torch.equal(tensor, right[name]), name
    if ours.model.vqmodel.post_quant_conv.weight.dtype != torch.float16:  # whose convolutions take seconds on a CPU
        codes = torch.arange(GRID**2)[None]
        images = codes_to_images(ours, codes)
        assert images.shape == ours.decode_image_tokens(codes).shape == (1, SIDE, SIDE, 3)


def test_a_cast_leaves_the_vq_tokenizer_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint = read_checkpoint(folders[1])
    cast(checkpoint, torch.bfloat16)
    write_hf(checkpoint, tmp_path / "small")
    tensors = open_model(tmp_path / "small").tensors()
    before = open_model(folders[1]).tensors()
    for name, tensor in tensors.items():
        wanted = before[name].dtype if name.startswith("model.vqmodel.") else torch.bfloat16
        assert tensor.dtype == wanted, name
    assert json.loads((tmp_path / "small" / "config.json").read_text())["dtype"] == "bfloat16"
    assert fingerprints(tmp_path / "small", "jpeg").vq == fingerprints(folders[0], "jpeg").vq
