"""Our Muon is PyTorch's, but for bf16 rounding."""

from __future__ import annotations

import torch

from janus.train.muon import Muon, orthogonalize


def test_same_steps_as_torch() -> None:
    torch.manual_seed(0)
    shapes = [(16, 16), (16, 16), (48, 16), (16, 48)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    mine = Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1}])
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b - before).norm()
        assert moved > 0.05
        assert (a - b).norm() < 0.03 * moved  # bf16 has 8 bits, and the iterations amplify them


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 8, 8), (3, 24, 8), (3, 8, 24)):
        values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_parameters_without_gradient_stay() -> None:
    still = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([{"params": [still], "lr": 1.0, "weight_decay": 0.5}])
    optimizer.step()
    assert torch.equal(still, torch.ones(4, 4))
