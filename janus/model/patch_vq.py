"""The small VQ tokenizer of the tiny preset: interface and codebook rules of VQ-16, without its convolutions.

VQ-16 costs minutes to fit on a CPU even at 64 pixels. This is vector quantisation in its first form: one linear map
turns a patch into a unit vector, the nearest code wins, and a code paints one patch. Like VQ-16 it shrinks a side 16
times. N images, n = g * g codes, g = `num_patches`, p = `patch_size`, S = g * p pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers import JanusVQVAEConfig, PreTrainedModel
from transformers.models.janus.modeling_janus import JanusVQVAEModelOutput


class PatchVQ(PreTrainedModel):
    """Image tokenizer with the interface of `JanusVQVAE`.

    Config fields: `num_patches` (g), `embed_dim`, `num_embeddings`, and `patch_size` (p), which VQ-16 does not have.
    """

    config_class = JanusVQVAEConfig
    base_model_prefix = "vqmodel"
    main_input_name = "pixel_values"

    def __init__(self, config: JanusVQVAEConfig) -> None:
        super().__init__(config)
        self.patch = int(config.patch_size)
        self.grid = int(config.num_patches)
        values = 3 * self.patch**2
        self.encoder = nn.Linear(values, config.embed_dim)
        self.quantize = Codebook(config.num_embeddings, config.embed_dim)
        self.decoder = nn.Embedding(config.num_embeddings, values)
        self.post_init()

    def encode(self, pixel_values: torch.Tensor) -> JanusVQVAEModelOutput:
        """Codes of float[N, 3, S, S] in [-1, 1]: `image_tokens` is int64[N * n], as in `JanusVQVAE`."""
        latents = F.normalize(self.encoder(self.patches(pixel_values)), dim=-1)
        codes = self.quantize.nearest(latents)
        return JanusVQVAEModelOutput(
            last_hidden_state=latents,
            quantized_last_hidden_state=self.quantize.lookup(codes),
            image_tokens=codes.flatten(),
        )

    def decode(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Pixels float[N, 3, S, S] of int64[N, n] codes. Raises ValueError for another number of codes."""
        count = self.grid**2
        if image_tokens.shape[1] != count:
            raise ValueError(f"image_tokens: expected {count} codes per image, got shape {tuple(image_tokens.shape)}")
        patches = self.decoder(image_tokens).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return F.pixel_shuffle(patches, self.patch)

    def patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Patches [N, n, 3 * p * p] of [N, 3, S, S], in reading order."""
        return F.pixel_unshuffle(pixel_values, self.patch).flatten(2).transpose(1, 2)


class Codebook(nn.Module):
    """The codebook, under the name and with the rule of the official one: both sides L2-normalised, nearest wins."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)

    def nearest(self, latents: torch.Tensor) -> torch.Tensor:
        """int64[...] of the codes nearest to unit vectors [..., width]: largest cosine = least distance."""
        return (latents @ F.normalize(self.embedding.weight, dim=-1).T).argmax(dim=-1)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Unit vectors [..., width] of int64[...] codes."""
        return F.normalize(self.embedding(codes), dim=-1)
