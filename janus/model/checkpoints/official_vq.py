"""VQ-16 as LlamaGen and DeepSeek store it: its names, and its sizes read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from transformers import JanusVQVAEConfig

COUNTER = "quantize.codebook_used"
"""A usage counter of LlamaGen's training, hard-coded to 65,536 entries; no weight."""
COUNTER_SIZE = 65536

_RENAMES = (
    ("encoder.conv_blocks.", "encoder.down."),
    ("decoder.conv_blocks.", "decoder.up."),
    (".res.", ".block."),
    (".mid.0.", ".mid.block_1."),
    (".mid.1.", ".mid.attn_1."),
    (".mid.2.", ".mid.block_2."),
)
"""Official name, and what `transformers` calls it."""


def to_hf_vq_name(name: str) -> str | None:
    """The name in `JanusVQVAE` of an official VQ tensor ("encoder.mid.0.conv1.weight" ...); None for the counter."""
    if name == COUNTER:
        return None
    for official, ours in _RENAMES:
        name = name.replace(official, ours)
    return name


def to_official_vq_name(name: str) -> str:
    """The inverse of `to_hf_vq_name`."""
    for official, ours in _RENAMES:
        name = name.replace(ours, official)
    return name


def vq_config(tensors: Mapping[str, torch.Tensor], *, image_size: int, where: str) -> JanusVQVAEConfig:
    """The configuration of a VQ-16 tokenizer, from the shapes of its tensors under the names of `JanusVQVAE`.

    Args:
        tensors: the VQ tokenizer's tensors.
        image_size: image side in pixels, which the tensors do not tell.
        where: what to name in messages.

    Raises ValueError with one line if they are not those of a VQ-16, or do not fit the image.
    """
    try:
        codes, width = tensors["quantize.embedding.weight"].shape
        latent = tensors["quant_conv.weight"].shape[1]
        base = tensors["encoder.conv_in.weight"].shape[0]
        levels = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"encoder\.down\.(\d+)\.", name)))
        blocks = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name)))
        widths = [tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
    except (KeyError, ValueError, IndexError) as error:
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
