"""Fingerprints: what a corpus was tokenized with, so that a trainer can refuse a model that differs (design D6)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from janus.model.processor import Processor
from janus.model.vq import load_vq
from schemas.digest import digest
from schemas.manifest import Fingerprints


def vq_fingerprint(vqmodel: nn.Module) -> str:
    """SHA-256 over the names, shapes and fp32 values of all tensors.

    In fp32, so that a bf16 checkpoint has one fingerprint whether it is loaded as bf16 or as fp32.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(vqmodel.state_dict().items()):
        sha.update(f"{name} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().to("cpu", torch.float32).contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def fingerprints(folder: str | Path, pixels: str) -> Fingerprints:
    """The fingerprints of the model in `folder`, read from its processor files and VQ tensors alone.

    Args:
        folder: a Janus folder or hub id.
        pixels: how a corpus stores understanding images: "jpeg" or "raw".

    Raises FileNotFoundError or ValueError with one line.
    """
    processor = Processor.from_folder(folder)
    vq = load_vq(folder)
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
