"""The VQ tokenizer against a second implementation of VQ-16, and the LlamaGen file layout."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import JanusVQVAE

from janus.model.checkpoints.model_folder import VQ_PREFIX, load_vq
from janus.model.vq import decode_codes, encode_codes
from tests.model import official_vq
from tests.model.toy import toy_config

SIDE = 64


@pytest.fixture(scope="module")
def state() -> official_vq.State:
    return official_vq.random_state(base=32, blocks=1, latent=32, width=8, codes=128)


@pytest.fixture(scope="module")
def file(state: official_vq.State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llamagen") / "vq_ds16_t2i.pt"
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def vq(file: Path) -> nn.Module:
    return load_vq(file, image_size=SIDE)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    coarse = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)


def test_llamagen_file_gives_the_sizes_its_tensors_have(vq: nn.Module) -> None:
    config = vq.config
    assert (config.num_embeddings, config.embed_dim, config.latent_channels) == (128, 8, 32)
    assert (config.base_channels, list(config.channel_multiplier), config.num_res_blocks) == (32, [1, 1, 2, 2, 4], 1)
    assert config.num_patches == SIDE // 16
    assert not any(parameter.requires_grad for parameter in vq.parameters())


def test_codes_equal_the_reference(vq: nn.Module, state: official_vq.State, pixels: torch.Tensor) -> None:
    expected = official_vq.encode(state, pixels)
    assert expected.unique().numel() > 10  # not a degenerate case
    assert torch.equal(encode_codes(vq, pixels), expected)


def test_images_equal_the_reference(file: Path, state: official_vq.State) -> None:
    """In double precision, where the two orders of summation agree."""
    vq = load_vq(file, dtype=torch.float64, image_size=SIDE)
    codes = torch.randint(0, 128, (3, 16), generator=torch.Generator().manual_seed(2))
    expected = official_vq.decode({name: tensor.double() for name, tensor in state.items()}, codes).clamp(-1, 1)
    torch.testing.assert_close(decode_codes(vq, codes), expected, atol=1e-9, rtol=0)


def test_trap_1_the_codebook_of_transformers_is_not_normalised(vq: nn.Module, pixels: torch.Tensor) -> None:
    codes = encode_codes(vq, pixels)
    assert torch.equal(vq.encode(pixels).image_tokens.view_as(codes), codes)
    plain = JanusVQVAE(vq.config).eval()
    plain.load_state_dict(vq.state_dict())
    assert torch.equal(encode_codes(plain, pixels), codes)
    naive = plain.encode(pixels).image_tokens.view_as(codes)
    assert (naive == codes).float().mean() < 0.9  # what a trainer built on `encode` would have learned from

    unit = JanusVQVAE(vq.config).eval()
    unit.load_state_dict(vq.state_dict())
    with torch.no_grad():
        unit.quantize.embedding.weight.copy_(F.normalize(unit.quantize.embedding.weight, dim=-1))
    assert torch.equal(encode_codes(unit, pixels), codes)
    torch.testing.assert_close(decode_codes(unit, codes), decode_codes(vq, codes), atol=1e-4, rtol=0)


def test_codes_do_not_depend_on_the_batch(vq: nn.Module, pixels: torch.Tensor) -> None:
    alone = torch.cat([encode_codes(vq, image[None]) for image in pixels])
    assert torch.equal(alone, encode_codes(vq, pixels))


def test_full_size_vq_has_the_published_parameters() -> None:
    state = official_vq.random_state(base=128, blocks=2, latent=256, width=8, codes=16384)
    del state["quantize.codebook_used"]
    assert sum(tensor.numel() for tensor in state.values()) == 71_883_403


def test_only_the_vq_tensors_of_a_janus_folder_are_read(vq: nn.Module, tmp_path: Path) -> None:
    toy_config().save_pretrained(tmp_path)
    tensors = {f"{VQ_PREFIX}{name}": tensor for name, tensor in vq.state_dict().items()}
    # A tensor of another part that could not be loaded: proof that nobody looked at it.
    save_file({**tensors, "lm_head.weight": torch.zeros(0)}, tmp_path / "model.safetensors")
    loaded = load_vq(tmp_path, dtype=torch.bfloat16)
    assert loaded.state_dict().keys() == vq.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, vq.state_dict()[name].bfloat16())


def test_a_damaged_file_is_one_line(tmp_path: Path, state: official_vq.State) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such VQ file"):
        load_vq(tmp_path / "missing.pt")
    torch.save({"weights": state}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match='no state dict under the key "model"'):
        load_vq(tmp_path / "other.pt")
    torch.save({"model": {k: v for k, v in state.items() if k != "encoder.conv_out.bias"}}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"not those of a VQ-16: 1 missing \(first: encoder.conv_out.bias\)"):
        load_vq(tmp_path / "short.pt", image_size=SIDE)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": _Evil()}))
    torch.save({"model": _Evil()}, tmp_path / "evil_zip.pt")
    for name in ("evil.pt", "evil_zip.pt"):
        with pytest.raises(ValueError, match="holds more than tensors"):
            load_vq(tmp_path / name)
    assert "executed" not in capsys.readouterr().out
