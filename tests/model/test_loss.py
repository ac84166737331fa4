"""Chunked cross-entropy: the same numbers, never the whole table of logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from janus.model.loss import token_losses

TOKENS, WIDTH, CLASSES = 37, 8, 50


@pytest.fixture
def case() -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, dtype=torch.float64).requires_grad_()
    return hidden, nn.Linear(WIDTH, CLASSES, dtype=torch.float64), torch.randint(0, CLASSES, (TOKENS,))


@pytest.mark.parametrize("chunk_logits", [1, CLASSES, 10 * CLASSES, 1000 * CLASSES])
def test_values_and_gradients_equal_cross_entropy(
    case: tuple[torch.Tensor, nn.Linear, torch.Tensor], chunk_logits: int
) -> None:
    hidden, head, labels = case
    weights = torch.rand(TOKENS)
    losses = token_losses(hidden, head, labels, classes=CLASSES, chunk_logits=chunk_logits)
    assert losses.dtype == torch.float32
    (losses * weights).sum().backward()
    ours = hidden.grad, head.weight.grad, head.bias.grad
    hidden.grad = head.weight.grad = head.bias.grad = None

    expected = F.cross_entropy(head(hidden), labels, reduction="none")
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    (expected * weights).sum().backward()
    for mine, theirs in zip(ours, (hidden.grad, head.weight.grad, head.bias.grad), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_no_more_logits_than_a_chunk_exist(case: tuple[torch.Tensor, nn.Linear, torch.Tensor]) -> None:
    hidden, linear, labels = case
    alive, most = 0, 0

    class Head(torch.autograd.Function):
        """Counts the logits that autograd keeps between forward and backward."""

        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, logits: torch.Tensor) -> torch.Tensor:
            nonlocal alive, most
            alive += logits.numel()
            most = max(most, alive)
            ctx.save_for_backward(logits)
            return logits.clone()

        @staticmethod
        def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:
            nonlocal alive
            alive -= ctx.saved_tensors[0].numel()
            return gradient

    def head(hidden: torch.Tensor) -> torch.Tensor:
        return Head.apply(linear(hidden))

    chunk = 5 * CLASSES
    losses = token_losses(hidden, head, labels, classes=CLASSES, chunk_logits=chunk)
    alive = most = 0  # the forward's own chunks are gone by now: only what backward recomputes counts
    losses.sum().backward()
    assert most == chunk


def test_half_precision_logits_are_compared_in_fp32() -> None:
    torch.manual_seed(0)
    hidden, labels = torch.randn(TOKENS, WIDTH).bfloat16(), torch.randint(0, CLASSES, (TOKENS,))
    head = nn.Linear(WIDTH, CLASSES).bfloat16()
    expected = F.cross_entropy(head(hidden).float(), labels, reduction="none")
    assert torch.equal(token_losses(hidden, head, labels, classes=CLASSES), expected)
