"""The VQ image tokenizer: images to codes and back, exactly as the official VQ-16 does it.

`transformers`' `JanusVQVAE.encode` compares raw vectors, while the official quantiser compares directions: it
L2-normalises both the encoder's output and the codebook before the nearest code is looked for. The two agree only for a
codebook of unit-norm rows; with rows of other lengths most codes differ. `encode_codes` follows the official rule for
any codebook and leaves the weights as they are. (Decoding normalises on both sides already.)
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from transformers import JanusVQVAE, JanusVQVAEConfig

from janus.model.checkpoints.hub import model_folder
from janus.model.config import read_config
from janus.model.parts import vq_tokenizer

PREFIX = "model.vqmodel."

# Official (LlamaGen, DeepSeek) names to ours: encoder/decoder levels and the middle blocks are called differently.
_RENAMES = (
    (re.compile(r"^encoder\.conv_blocks\.(\d+)\.res\."), r"encoder.down.\1.block."),
    (re.compile(r"^decoder\.conv_blocks\.(\d+)\.res\."), r"decoder.up.\1.block."),
    (re.compile(r"^encoder\.conv_blocks\."), "encoder.down."),
    (re.compile(r"^decoder\.conv_blocks\."), "decoder.up."),
    (re.compile(r"^(encoder|decoder)\.mid\.0\."), r"\1.mid.block_1."),
    (re.compile(r"^(encoder|decoder)\.mid\.1\."), r"\1.mid.attn_1."),
    (re.compile(r"^(encoder|decoder)\.mid\.2\."), r"\1.mid.block_2."),
)
_NOT_WEIGHTS = ("quantize.codebook_used",)
"""A usage counter of LlamaGen's training, hard-coded to 65,536 entries; no weight."""


def official_name(name: str) -> str | None:
    """Our name of an official VQ tensor ("encoder.mid.0.conv1.weight" ...); None for one that is no weight."""
    if name in _NOT_WEIGHTS:
        return None
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def load_vq(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *, image_size: int = 384
) -> nn.Module:
    """Load a VQ tokenizer and nothing else.

    Args:
        path: a Janus folder or hub id, or LlamaGen's `vq_ds16_t2i.pt`.
        device: where to put it.
        dtype: fp32 by default: in bf16 one code in ten comes out different (docs/model.md).
        image_size: image side in pixels, for a LlamaGen file, which does not say (it fits any multiple of 16).

    Raises FileNotFoundError or ValueError with one line.
    """
    path = Path(path) if Path(path).suffix == ".pt" else model_folder(path, weights=True)
    vq = _from_folder(path) if path.is_dir() else _from_llamagen(path, image_size)
    return vq.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _from_folder(folder: Path) -> nn.Module:
    config = read_config(folder)
    tensors: dict[str, torch.Tensor] = {}
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as reader:
            names = [name for name in reader.keys() if name.startswith(PREFIX)]  # noqa: SIM118  not a mapping
            tensors |= {name.removeprefix(PREFIX): reader.get_tensor(name) for name in names}
    return _fill(config.vq_config, tensors, str(folder))


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a Hugging Face folder that hold VQ tensors."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = json.loads(index.read_text())["weight_map"]
        return sorted({folder / file for name, file in names.items() if name.startswith(PREFIX)})
    single = folder / "model.safetensors"
    if not single.is_file():
        raise FileNotFoundError(f"{single}: not found, nor model.safetensors.index.json; is this a Janus model folder?")
    return [single]


def _from_llamagen(path: Path, image_size: int) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such VQ file or Janus folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a file of plain tensors: {reason}") from None
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f'{path}: no state dict under the key "model"; expected LlamaGen\'s vq_ds16_t2i.pt layout')
    tensors = {ours: tensor for name, tensor in state.items() if (ours := official_name(name)) is not None}
    return _fill(config_of(tensors, image_size=image_size, where=str(path)), tensors, str(path))


def config_of(tensors: dict[str, torch.Tensor], *, image_size: int, where: str) -> JanusVQVAEConfig:
    """The configuration that VQ-16 tensors (our names) imply by their shapes."""
    try:
        codes, width = tensors["quantize.embedding.weight"].shape
        latent = tensors["quant_conv.weight"].shape[1]
        base = tensors["encoder.conv_in.weight"].shape[0]
        levels = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"encoder\.down\.(\d+)\.", name)))
        blocks = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name)))
        widths = [tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{where}: not a VQ-16 tokenizer: {error} is missing") from None
    factor = 2 ** (levels - 1)
    if image_size % factor:
        raise ValueError(f"{where}: image side {image_size} is not a multiple of {factor}")
    return JanusVQVAEConfig(
        embed_dim=width,
        num_embeddings=codes,
        latent_channels=latent,
        base_channels=base,
        channel_multiplier=[width // base for width in widths],
        num_res_blocks=blocks,
        num_patches=image_size // factor,
    )


def _fill(config: JanusVQVAEConfig, tensors: dict[str, torch.Tensor], where: str) -> nn.Module:
    with torch.device("meta"):
        vq = vq_tokenizer(config)
    expected = set(vq.state_dict())
    if missing := sorted(expected - set(tensors)):
        raise ValueError(f"{where}: {len(missing)} VQ tensors are missing, first {missing[0]}")
    if unknown := sorted(set(tensors) - expected):
        raise ValueError(f"{where}: {len(unknown)} VQ tensors are unknown, first {unknown[0]}")
    vq.load_state_dict(tensors, strict=True, assign=True)
    return vq


@torch.no_grad()
def encode_codes(vqmodel: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Images to codes.

    Args:
        vqmodel: from `load_vq`, or a model's `model.vqmodel`.
        pixels: float[N, 3, S, S] in [-1, 1].

    Returns:
        int64[N, N_g], rows of the code grid one after the other.
    """
    weight = next(vqmodel.parameters())
    pixels = pixels.to(weight.device, weight.dtype)
    if not isinstance(vqmodel, JanusVQVAE):
        return vqmodel.encode(pixels).image_tokens.view(len(pixels), -1)
    latents = vqmodel.quant_conv(vqmodel.encoder(pixels))  # [N, C, h, w]
    # Whatever the encoder computes in, distances to 16,384 codes are told apart in float32.
    with torch.autocast(weight.device.type, enabled=False):
        latents = F.normalize(latents.float().flatten(2).transpose(1, 2), dim=-1)  # [N, N_g, C]
        codebook = F.normalize(vqmodel.quantize.embedding.weight.float(), dim=-1)
        return torch.stack([_nearest(latent, codebook) for latent in latents])


def _nearest(latent: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """int64[n]: nearest row of codebook[K, C] for each of latent[n, C], by the official formula, ties and all."""
    distances = latent.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * latent @ codebook.T
    return distances.argmin(1)


@torch.no_grad()
def decode_codes(vqmodel: nn.Module, codes: torch.Tensor) -> torch.Tensor:
    """Codes to images.

    Args:
        vqmodel: from `load_vq`, or a model's `model.vqmodel`.
        codes: int64[N, N_g].

    Returns:
        float[N, 3, S, S] in [-1, 1].
    """
    return vqmodel.decode(codes.to(next(vqmodel.parameters()).device)).clamp(-1.0, 1.0)
