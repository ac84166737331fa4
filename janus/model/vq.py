"""The VQ image tokenizer: images to codes and back, exactly as the official VQ-16 does it.

`transformers`' `JanusVQVAE.encode` compares raw vectors, while the official quantiser compares directions: it
L2-normalises both the encoder's output and the codebook before the nearest code is looked for. The two agree only for a
codebook of unit-norm rows; with rows of other lengths most codes differ. `VQ16` and `encode_codes` follow the official
rule for any codebook and leave the weights as they are. (Decoding normalises in either.)

Shape legend: N images, S side in pixels, N_g codes per image on an h x w grid, K codes of width C.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import JanusVQVAE
from transformers.models.janus.modeling_janus import JanusVQVAEModelOutput


class VQ16(JanusVQVAE):
    """`JanusVQVAE` by the official rule. Its codebook may be float32 beside convolutions in half precision."""

    def encode(self, pixel_values: torch.Tensor, **kwargs: Any) -> JanusVQVAEModelOutput:
        """Codes of float[N, 3, S, S] in [-1, 1]: `image_tokens` is int64[N * N_g], as in `JanusVQVAE`."""
        hidden = self.encoder(pixel_values)
        codes = nearest_codes(self, hidden)
        return JanusVQVAEModelOutput(
            last_hidden_state=hidden,
            quantized_last_hidden_state=self.quantize.get_codebook_entry(codes),
            image_tokens=codes.flatten(),
            embedding_loss=hidden.new_zeros(()),
        )

    def decode(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Pixels float[N, 3, S, S] of int64[N, N_g] codes. Raises ValueError for another number of codes."""
        grid = self.quantize.quant_state_dims
        if image_tokens.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"image_tokens: expected {grid[0] * grid[1]} codes per image, got shape {tuple(image_tokens.shape)}"
            )
        rows = self.quantize.get_codebook_entry(image_tokens)  # [N, C, h, w]
        return self.decoder(self.post_quant_conv(rows.to(self.post_quant_conv.weight.dtype)))


def nearest_codes(vqmodel: JanusVQVAE, hidden: torch.Tensor) -> torch.Tensor:
    """int64[N, N_g]: the official quantiser, on what the encoder of `vqmodel` made of N images."""
    latents = vqmodel.quant_conv(hidden)  # [N, C, h, w]
    # Whatever the encoder computes in, distances to 16,384 codes are told apart in float32.
    with torch.autocast(hidden.device.type, enabled=False):
        latents = F.normalize(latents.float().flatten(2).transpose(1, 2), dim=-1)  # [N, N_g, C]
        codebook = F.normalize(vqmodel.quantize.embedding.weight.float(), dim=-1)
        return torch.stack([_nearest(latent, codebook) for latent in latents])


def _nearest(latent: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """int64[n]: nearest row of codebook[K, C] for each of latent[n, C], by the official formula, ties and all."""
    distances = latent.pow(2).sum(1, keepdim=True) + codebook.pow(2).sum(1) - 2 * latent @ codebook.T
    return distances.argmin(1)


@torch.no_grad()
def encode_codes(vqmodel: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Images to codes.

    Args:
        vqmodel: from `load_vq`, a model's `model.vqmodel`, or a `JanusVQVAE` of transformers.
        pixels: float[N, 3, S, S] in [-1, 1].

    Returns:
        int64[N, N_g], rows of the code grid one after the other.
    """
    weight = next(vqmodel.parameters())
    pixels = pixels.to(weight.device, weight.dtype)
    if isinstance(vqmodel, JanusVQVAE):
        return nearest_codes(vqmodel, vqmodel.encoder(pixels))
    return vqmodel.encode(pixels).image_tokens.view(len(pixels), -1)


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
