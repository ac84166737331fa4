"""What recomputation computes a second time and what it saves, and what FSDP gathers together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from janus.data.loader import Loader
from janus.model.attention import Packing, _flash, _grouped
from janus.model.checkpoints.model_folder import load_janus
from janus.train import parallel
from janus.train.loop import token_ids
from janus.train.optim import freeze
from janus.train.parallel import _layer_forward, parallelize
from janus.train.recipe import Optimizer, Parallel, Recipe
from janus.train.rehearsal import kept_bytes
from janus.train.step import LossModule, accumulate
from janus.train.world import join_world
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE


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


def kept_by(recipe: Recipe, model: Path, corpus: Path) -> int:
    """Bytes that the forward of the first micro-batch keeps."""
    janus, processor = load_janus(model)
    freeze(janus, recipe.train)
    loader = Loader(corpus, load_snapshot(corpus), data=recipe.data, tokens=token_ids(processor, janus), steps=1)
    module, _ = parallelize(LossModule(janus), recipe, ALONE)
    with kept_bytes(module) as kept:
        accumulate(module, next(iter(loader)), ALONE, recipe)
    return kept[0]


@pytest.mark.parametrize(("stage", "saves"), [(2, False), (3, True)])
def test_a_trained_encoder_is_recomputed_too(
    model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, stage: int, saves: bool
) -> None:
    """Beside the LLM's layers; a frozen encoder keeps nothing that could be saved."""
    recipe = replace(little_recipe(stage), parallel=Parallel(mode="ddp", activation_checkpoint="full"))
    with_encoder = kept_by(recipe, model, corpus)
    monkeypatch.setattr(parallel, "_trained_encoder_layers", lambda module: [])
    without = kept_by(recipe, model, corpus)
    assert with_encoder < without if saves else with_encoder == without


def groups_of(recipe: Recipe, model: Path) -> dict[str, int]:
    """Parameters in each FSDP group, by the path of its module, and those in none ("")."""
    with join_world("cpu", process_groups=True) as world:
        janus, _ = load_janus(model)
        freeze(janus, recipe.train)
        module, _ = parallelize(LossModule(janus), recipe, world)
        found = dict.fromkeys([""], 0)
        for parameter in module.parameters():
            found[""] += 0 if isinstance(parameter, DTensor) else parameter.numel()
        for name, part in module.named_modules():
            if isinstance(part, FSDPModule):
                group = part._get_fsdp_state()._fsdp_param_group
                assert group is not None
                found[name or "root"] = sum(param.sharded_param.numel() for param in group.fsdp_params)
        return found


def test_the_root_gathers_no_more_than_heads_and_adaptors(model: Path) -> None:
    """The VQ tokenizer is in no group; encoder, embeddings and every LLM layer have one of their own."""
    recipe = replace(little_recipe(3), precision="bf16", optimizer=Optimizer(), parallel=Parallel(mode="fsdp"))
    (found,) = run_ranks(1, groups_of, recipe, model)
    janus, _ = load_janus(model)
    body = janus.model

    def size(*modules: nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    llm = body.language_model
    parts = (body.aligner, body.generation_aligner, body.generation_head, body.generation_embeddings, janus.lm_head)
    assert found == {
        "": size(body.vqmodel),
        "janus.model.vision_model": size(body.vision_model),
        "janus.model.language_model.embed_tokens": size(llm.embed_tokens),
        "janus.model.language_model.layers.0": size(llm.layers[0]),
        "janus.model.language_model.layers.1": size(llm.layers[1]),
        "root": size(*parts, llm.norm),
    }
