"""A VQ codebook that every implementation reads the same way.

The official quantiser compares directions: it L2-normalises latents and codebook rows before it looks for the nearest.
`transformers` normalises neither when it encodes, so on a codebook whose rows are not of unit norm its codes differ
from the official ones. Normalising the rows once, in place, makes the two agree and changes nothing else: decoding
normalises anyway, and so does our own `encode_codes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

CODEBOOK = "model.vqmodel.quantize.embedding.weight"


@dataclass(frozen=True)
class CodebookRows:
    """What `unit_rows` found."""

    rows: torch.Tensor
    """float[K, C]: rows of unit norm, in the type of the original."""
    lowest: float
    """Smallest row norm before ..."""
    highest: float
    """... and largest."""
    changed: bool
    """Whether any row was further from unit norm than its type can tell."""


def unit_rows(codebook: torch.Tensor) -> CodebookRows:
    """The codebook (float[K, C]) with rows of unit norm; the very same tensor when they are so already."""
    exact = codebook.float()
    norms = exact.norm(dim=-1)
    normalised = F.normalize(exact, dim=-1).to(codebook.dtype)
    changed = bool((normalised.float() - exact).abs().max() > torch.finfo(codebook.dtype).eps)
    return CodebookRows(normalised if changed else codebook, float(norms.min()), float(norms.max()), changed)
