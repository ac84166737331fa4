"""Codebook rows: which are normalised, what that does to a row, and that the bits are the same on every machine."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from janus.model.codebook import unit_rows


def rows(scale: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    drawn = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    return (F.normalize(drawn, dim=-1) * scale).to(dtype)


def test_unit_rows_are_left_alone() -> None:
    codebook = rows(1.0)
    found = unit_rows(codebook)
    assert found.rows is codebook
    assert not found.changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_other_rows_keep_their_direction_in_float32(dtype: torch.dtype, scale: float) -> None:
    """Rows of unit norm are not exactly so once they are rounded to half precision."""
    codebook = rows(scale, dtype)
    found = unit_rows(codebook)
    assert found.changed == (scale != 1.0 or dtype != torch.float32)
    assert found.rows.dtype == torch.float32
    assert scale * 0.98 < found.lowest <= found.highest < scale * 1.02
    torch.testing.assert_close(found.rows, F.normalize(codebook.float(), dim=-1), rtol=0, atol=2e-7)
    again = unit_rows(found.rows)
    assert not again.changed
    assert torch.equal(again.rows, found.rows)


def test_the_bits_follow_from_ieee_arithmetic() -> None:
    """Squares added one column after the other in float64, then rounded once: no kernel has a say in it."""
    codebook = rows(1.3, torch.bfloat16)[:50]
    expected = []
    for row in codebook.double().tolist():
        total = 0.0
        for value in row:
            total += value * value
        expected.append([value / math.sqrt(total) for value in row])
    assert torch.equal(unit_rows(codebook).rows, torch.tensor(expected, dtype=torch.float64).float())


def test_one_long_row_is_enough() -> None:
    codebook = rows(1.0)
    codebook[3] *= 1.01
    assert unit_rows(codebook).changed


def test_a_row_of_zeros_stays_zero() -> None:
    codebook = rows(1.0)
    codebook[3] = 0
    assert torch.equal(unit_rows(codebook).rows[3], torch.zeros(8))
