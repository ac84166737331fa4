"""Batched Muon against torch's, matrix by matrix."""

from __future__ import annotations

import pytest
import torch

from janus.train.muon import Muon, orthogonalize


def matrices(shapes: list[tuple[int, int]]) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 24)])
def test_singular_values_go_to_about_one(shape: tuple[int, int]) -> None:
    given = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalize(given)
    values = torch.linalg.svdvals(found)
    assert values.shape == (3, min(shape))
    assert 0.3 < values.min() <= values.max() < 1.3
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    # The same singular vectors: only the values change.
    core = left.mT @ found @ right.mT
    off_diagonal = core - torch.diag_embed(core.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-5


def test_steps_are_torchs() -> None:
    """torch iterates in bf16, so equal to about two digits of a step."""
    shapes = [(16, 16), (24, 8), (8, 24), (16, 16)]
    ours, theirs = matrices(shapes), matrices(shapes)
    start = [parameter.detach().clone() for parameter in ours]
    optimizers = (
        Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1}]),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1),
    )
    for step in range(3):
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            generator = torch.Generator().manual_seed(step)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
    for before, mine, other in zip(start, ours, theirs, strict=True):
        moved = (other - before).norm()
        assert moved > 0.05
        assert (mine - other).norm() < 0.03 * moved


def test_matrices_without_gradient_stay() -> None:
    (parameter,) = matrices([(4, 4)])
    before = parameter.detach().clone()
    Muon([{"params": [parameter]}]).step()
    assert torch.equal(parameter, before)
