"""Fingerprints: what a corpus was tokenized with, so that a trainer can refuse a model that differs (design D6)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from janus.model.checkpoints.model_folder import load_vq, open_model
from janus.model.codebook import CODEBOOK, unit_rows
from schemas.digest import digest
from schemas.manifest import Fingerprints

_ROWS = CODEBOOK.removeprefix("model.vqmodel.")


def vq_fingerprint(vqmodel: nn.Module) -> str:
    """SHA-256 over the names, shapes and fp32 values of all tensors, the codebook's rows at unit norm.

    In fp32, so that a bf16 checkpoint has one fingerprint whether it is loaded as bf16 or as fp32. At unit norm, as
    encoding and decoding use them, so that DeepSeek's folder and its import have one.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(vqmodel.state_dict().items()):
        value = tensor.detach().cpu()
        value = unit_rows(value).rows if name == _ROWS else value.float()
        sha.update(f"{name} {tuple(value.shape)}\n".encode())
        sha.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def fingerprints(source: str | Path, pixels: str) -> Fingerprints:
    """The fingerprints of a model, read from its processor files and VQ tensors alone.

    Args:
        source: a Janus folder in either layout, or a hub id.
        pixels: how a corpus stores understanding images: "jpeg" or "raw".

    Raises FileNotFoundError or ValueError with one line.
    """
    processor = open_model(source).processor()
    vq = load_vq(source)
    return Fingerprints(
        tokenizer=digest(processor.tokenizer_identity()),
        image_processor=digest(processor.image_identity()),
        vq=vq_fingerprint(vq),
        image_size=processor.image_size,
        understanding_tokens=processor.understanding_tokens,
        generation_tokens=processor.generation_tokens,
        codebook_size=vq.config.num_embeddings,
        pixels=pixels,
    )
