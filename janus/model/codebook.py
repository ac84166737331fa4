"""A VQ codebook that every implementation reads the same way.

The official quantiser compares directions: it L2-normalises latents and codebook rows before it looks for the nearest.
`transformers` normalises neither when it encodes, so on a codebook whose rows are not of unit norm its codes differ
from the official ones. Rows of unit norm in float32, whatever type they were stored in, make the two agree and change
nothing else: decoding normalises anyway, and so does our own `encode_codes`. (Rounded back to bfloat16, such rows are
no longer of unit norm, and up to 7 codes in 1,000 turn.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CODEBOOK = "model.vqmodel.quantize.embedding.weight"
_TOLERANCE = 2.0**-22
"""Elements of a float32 unit vector that is normalised again move by less than this."""


@dataclass(frozen=True)
class CodebookRows:
    """What `unit_rows` found."""

    rows: torch.Tensor
    """float32[K, C]: rows of unit norm."""
    lowest: float
    """Smallest row norm before ..."""
    highest: float
    """... and largest."""
    changed: bool
    """Whether any row was further from unit norm than float32 can tell."""


def unit_rows(codebook: torch.Tensor) -> CodebookRows:
    """The codebook (float[K, C]) with rows of unit norm in float32; the very same values when they are so already.

    The same bits on every machine, because fingerprints are made of them: squares are added in float64, one column
    after the other, not in the order of whatever vector unit there is. A row of zeros stays zero.
    """
    exact = codebook.detach().double()
    squares = torch.zeros_like(exact[:, 0])
    for column in exact.unbind(1):
        squares = squares + column * column
    norms = squares.sqrt()
    rows = (exact / norms.clamp(min=1e-12)[:, None]).float()
    changed = not bool((rows.double() - exact).abs().max() <= _TOLERANCE)
    return CodebookRows(rows if changed else codebook.float(), float(norms.min()), float(norms.max()), changed)
