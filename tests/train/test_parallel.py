"""What selective recomputation computes a second time, read off the operators that run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from janus.model.attention import Packing, _flash, _grouped
from janus.train.parallel import _layer_forward
from janus.train.recipe import Parallel


class Spy(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(operator))
        return operator(*args, **(kwargs or {}))


def operators_of(kind: str, attend: Any) -> list[str]:
    """Operators of forward and backward of a layer: a product, attention over two documents, and activations."""
    states, weight = (torch.ones(size, requires_grad=True) for size in ((8, 32), (32, 32)))

    def layer(states: torch.Tensor) -> torch.Tensor:
        query = (states @ weight).unflatten(1, (2, 16))
        packing = Packing(torch.tensor([4, 4], dtype=torch.int32), 8)
        return F.silu(attend(query, query, query, packing, 0.0, None, None)).square()

    with Spy() as spy:
        _layer_forward(layer, Parallel(activation_checkpoint=kind))(states).sum().backward()
    return spy.seen


# The GPU's path has no kernel here, but its operator runs on tensors without content.
@pytest.mark.parametrize(
    ("attend", "operator", "content"),
    [
        (_flash, "torch_attn._varlen_attn.default", False),
        (_grouped, "aten._scaled_dot_product_flash_attention_for_cpu.default", True),
    ],
)
def test_selective_recomputation_keeps_products_and_attention(attend: Any, operator: str, content: bool) -> None:
    times = {}
    for kind in ("none", "selective", "full"):
        if content:
            seen = operators_of(kind, attend)
        else:
            with FakeTensorMode():
                seen = operators_of(kind, attend)
        # Two more products are the backward's own.
        times[kind] = seen.count(operator), seen.count("aten.mm.default") - 2, seen.count("aten.silu.default")
    assert times == {"none": (1, 1, 1), "selective": (1, 1, 2), "full": (2, 2, 2)}
