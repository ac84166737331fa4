"""Which codebooks are normalised, and what that does to a row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from janus.model.codebook import unit_rows


def rows(scale: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    drawn = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    return (F.normalize(drawn, dim=-1) * scale).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unit_rows_are_left_alone_whatever_their_precision(dtype: torch.dtype) -> None:
    codebook = rows(1.0, dtype)
    found = unit_rows(codebook)
    assert found.rows is codebook
    assert not found.changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_rows_keep_their_direction(dtype: torch.dtype) -> None:
    codebook = rows(1.3, dtype)
    found = unit_rows(codebook)
    assert found.changed
    assert found.rows.dtype == dtype
    assert 1.28 < found.lowest <= found.highest < 1.32
    cosine = F.cosine_similarity(found.rows.float(), codebook.float())
    assert cosine.min() > 0.9999
    assert not unit_rows(found.rows).changed


def test_one_long_row_is_enough() -> None:
    codebook = rows(1.0)
    codebook[3] *= 1.01
    assert unit_rows(codebook).changed
