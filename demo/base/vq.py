"""Fits the tiny VQ tokenizer in closed form: principal components, then k-means on the unit sphere."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from transformers import JanusVQVAEConfig

from janus.model.patch_vq import PatchVQ

PICTURES = 2000
"""Pictures the codebook is fitted on."""
_ROUNDS = 6
"""Rounds of k-means."""
_SPREAD = 12.0
"""Length in pixel space (values in [-1, 1]) that makes an angle of 45 degrees: about the spread of the patches."""


@torch.no_grad()
def fit_vq(pictures: np.ndarray, config: JanusVQVAEConfig, seed: int) -> PatchVQ:
    """A tokenizer fitted to `pictures` (uint8[N, S, S, 3]).

    Colour channels are permuted at random, picture by picture: a tokenizer should know edges in all colours, not only
    in those that its pictures happen to show.
    """
    generator = torch.Generator().manual_seed(seed)
    model = PatchVQ(config)
    orders = torch.rand(min(PICTURES, len(pictures)), 3, generator=generator).argsort(1)
    pixels = torch.from_numpy(pictures[: len(orders)]).permute(0, 3, 1, 2).float() / 127.5 - 1
    pixels = pixels.gather(1, orders[:, :, None, None].expand_as(pixels))
    patches = model.patches(pixels).flatten(0, 1)  # [M, 3 * p * p]

    _set_encoder(model, patches)
    latents = F.normalize(model.encoder(patches), dim=-1)
    codebook = latents[_farthest(latents, config.num_embeddings)]
    for _ in range(_ROUNDS):
        codes = (latents @ codebook.T).argmax(1)
        sums = torch.zeros_like(codebook).index_add_(0, codes, latents)
        used = torch.bincount(codes, minlength=len(codebook)) > 0
        codebook[used] = F.normalize(sums[used], dim=-1)
    model.quantize.embedding.weight.copy_(codebook)

    codes = (latents @ codebook.T).argmax(1)
    counts = torch.bincount(codes, minlength=len(codebook))
    painted = torch.zeros_like(model.decoder.weight).index_add_(0, codes, patches) / counts.clamp(min=1)[:, None]
    model.decoder.weight.copy_(painted.clamp(-1, 1))
    return model.eval()


def _set_encoder(model: PatchVQ, patches: torch.Tensor) -> None:
    """Principal components, and one constant coordinate: on the sphere the length of a patch then counts too."""
    mean = patches.mean(0)
    centred = patches - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(patches))
    components = vectors.flip(1)[:, : model.config.embed_dim - 1].T / _SPREAD
    model.encoder.weight.copy_(torch.cat([components, torch.zeros(1, len(mean))]))
    model.encoder.bias.copy_(torch.cat([-components @ mean, torch.ones(1)]))


def _farthest(latents: torch.Tensor, count: int) -> list[int]:
    """Farthest-first: each next one is the latent farthest from those chosen so far, so every kind of patch has one."""
    chosen = [0]
    distance = torch.full((len(latents),), float("inf"))
    for _ in range(count - 1):
        distance = torch.minimum(distance, 2 - 2 * latents @ latents[chosen[-1]])
        chosen.append(int(distance.argmax()))
    return chosen
