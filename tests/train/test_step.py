"""One step has one loss and one gradient, however its packs are spread over micro-batches and processes (D10)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule

from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.packed import NUM_TASKS, TASK_IDS, PackedBatch
from janus.train.gradients import Clipper
from janus.train.loop import token_ids
from janus.train.optim import freeze
from janus.train.parallel import parallelize
from janus.train.recipe import Parallel, Recipe
from janus.train.step import LossModule, _gradient_sync, accumulate, merge_documents
from janus.train.world import join_world
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE, one_step, steps_of_ranks
from tests.train.test_parallel import Spy

LOPSIDED = [(0, 1, 0), (0, 0, 1)]
"""Ratios that leave out images, or text labels."""


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    assert torch.equal(found["tokens"], expected["tokens"])
    assert torch.equal(found["batch"], expected["batch"])
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Stage 3 with eight sequences in one forward."""
    start = little_recipe(3)
    return replace(start, data=replace(start.data, sequences=8, micro_batch=8))


@pytest.fixture(scope="module")
def whole(recipe: Recipe, model: Path, corpus: Path) -> dict[str, torch.Tensor]:
    """The step in a single forward of a single process."""
    return one_step(recipe, model, corpus)


@pytest.mark.parametrize("micro_batch", [4, 1])
def test_accumulation_changes_nothing(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path, micro_batch: int
) -> None:
    """1 x 8 = 2 x 4 = 8 x 1; micro-batches differ in labels, so a mean of means would differ."""
    split = replace(recipe, data=replace(recipe.data, micro_batch=micro_batch))
    assert_same(one_step(split, model, corpus), whole, 1e-6)


@pytest.fixture(scope="module")
def spread(recipe: Recipe, model: Path, corpus: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The step on two processes, laid out in several ways; and steps that leave a process without work."""
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, name="adamw"))
    recipes = {}
    for mode in ("ddp", "fsdp", "hybrid"):
        here = replace(recipe, parallel=Parallel(mode=mode))
        # Two micro-batches on each rank: between copies of the weights, gradients cross in the second only.
        recipes[mode] = replace(here, data=replace(recipe.data, micro_batch=2))
    for mode in ("ddp", "fsdp"):
        for ratio in LOPSIDED:
            data = replace(recipe.data, ratio=ratio, sequences=1, micro_batch=1)
            recipes[f"{mode} {ratio}"] = replace(recipe, parallel=Parallel(mode=mode), data=data)
    return run_ranks(2, steps_of_ranks, recipes, model, corpus)[0]


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "hybrid"])
def test_processes_change_nothing(
    whole: dict[str, torch.Tensor], spread: dict[str, dict[str, torch.Tensor]], mode: str
) -> None:
    assert_same(spread[mode], whole, 1e-6)


@pytest.mark.slow
def test_shards_inside_nodes_and_copies_between_change_nothing(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path
) -> None:
    """Two nodes of two processes, two micro-batches each."""
    hybrid = replace(
        recipe,
        optimizer=replace(recipe.optimizer, name="adamw"),
        parallel=Parallel(mode="hybrid"),
        data=replace(recipe.data, micro_batch=1),
    )
    for found in run_ranks(4, steps_of_ranks, {"hybrid": hybrid}, model, corpus, local_size=2):
        assert_same(found["hybrid"], whole, 1e-6)


def gradients_held(recipe: Recipe, model: Path, corpus: Path) -> list[tuple[int, int]]:
    """Numbers of the gradients this process holds, and of the weights, after a micro-batch that is not the last."""
    with join_world("cpu", process_groups=True) as world:
        janus, processor = load_janus(model)
        tokens = token_ids(processor, janus)
        loader = Loader(corpus, load_snapshot(corpus), data=recipe.data, tokens=tokens, steps=1)
        freeze(janus, recipe.train)
        module, _ = parallelize(LossModule(janus), recipe, world)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        with _gradient_sync(module, last=False):
            module(next(iter(loader))[0]).sums.sum().backward()
        unsharded = [
            tensor
            for state in (layer._get_fsdp_state() for layer in module.modules() if isinstance(layer, FSDPModule))
            for group in state._fsdp_param_groups
            for parameter in group.fsdp_params
            if (tensor := parameter.unsharded_accumulated_grad) is not None
        ]
        held = sum(parameter.grad.to_local().numel() for parameter in trained if parameter.grad is not None)
        return [(held, len(unsharded)), (sum(parameter.to_local().numel() for parameter in trained), 0)]


def test_gradients_stay_sharded_between_micro_batches(recipe: Recipe, model: Path, corpus: Path) -> None:
    fsdp = replace(recipe, optimizer=replace(recipe.optimizer, name="adamw"), parallel=Parallel(mode="fsdp"))
    for held, weights in run_ranks(2, gradients_held, fsdp, model, corpus):
        assert held == weights


class FloatSpy(Spy):
    """Names of the operators that run, but for those that make whole numbers."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(operator, types, args, kwargs)
        if isinstance(result, torch.Tensor) and not result.is_floating_point():
            self.seen.pop()
        return result


def test_sums_are_added_in_a_fixed_order(recipe: Recipe, model: Path, corpus: Path) -> None:
    """No operator of the losses or of clipping adds several numbers to one place in any order, as index_add does."""
    janus, processor = load_janus(model)
    loader = Loader(
        corpus, load_snapshot(corpus), data=recipe.data, tokens=token_ids(processor, janus), steps=recipe.steps
    )
    trained = freeze(janus, recipe.train)
    with FloatSpy() as spy:
        losses = janus.packed_loss(next(iter(loader))[0])
    losses.sums.sum().backward()
    with spy:
        Clipper(trained, 1.0, None).clip()
    assert "aten.embedding.default" in spy.seen
    assert "aten._foreach_mul_.Tensor" in spy.seen
    assert not [name for name in spy.seen if any(part in name for part in ("index_add", "scatter", "index_put"))]


def test_a_bad_loss_stays_with_its_task(recipe: Recipe, model: Path, corpus: Path) -> None:
    janus, processor = load_janus(model)
    loader = Loader(
        corpus, load_snapshot(corpus), data=recipe.data, tokens=token_ids(processor, janus), steps=recipe.steps
    )
    batch = next(iter(loader))[0]
    with torch.no_grad():
        before = janus.packed_loss(batch).sums
        janus.model.generation_head.vision_head.bias.fill_(float("inf"))
        after = janus.packed_loss(batch).sums
    assert torch.equal(after[:2], before[:2])
    assert not torch.isfinite(after[TASK_IDS["generation"]])


@pytest.mark.parametrize("ratio", LOPSIDED)
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_ranks_without_work_do_not_hang(
    spread: dict[str, dict[str, torch.Tensor]],
    recipe: Recipe,
    model: Path,
    corpus: Path,
    mode: str,
    ratio: tuple[int, int, int],
) -> None:
    """One sequence for two ranks: one of them holds nothing but padding, and neither has an image or a text label."""
    alone = replace(recipe, data=replace(recipe.data, ratio=ratio, sequences=1, micro_batch=1))
    assert_same(spread[f"{mode} {ratio}"], one_step(alone, model, corpus), 1e-6)


@pytest.mark.parametrize("kind", ["selective", "full"])
def test_recomputation_changes_nothing(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path, kind: str
) -> None:
    recomputed = replace(recipe, parallel=Parallel(mode="ddp", activation_checkpoint=kind))
    assert_same(one_step(recomputed, model, corpus), whole, 0.0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compilation_changes_nothing(whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path) -> None:
    compiled = replace(recipe, parallel=Parallel(mode="ddp", compile=True, activation_checkpoint="selective"))
    assert_same(one_step(compiled, model, corpus), whole, 1e-6)


def test_bf16_computes_in_bf16_and_keeps_fp32_masters(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path
) -> None:
    adamw = replace(recipe.optimizer, name="adamw")
    bf16 = replace(recipe, precision="bf16", optimizer=adamw, parallel=Parallel(mode="fsdp"))
    found = run_ranks(1, steps_of_ranks, {"bf16": bf16}, model, corpus)[0]["bf16"]
    assert 1e-6 < abs(found["loss"] - whole["loss"]) < 2e-2
    for name, gradient in found.items():
        assert gradient.dtype in (torch.float32, torch.float64, torch.int64), name
    torch.testing.assert_close(found["norms"], whole["norms"], rtol=0.05, atol=1e-3)


def test_merged_documents_fill_their_packs() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    batch = PackedBatch(
        input_ids=torch.zeros(2, 5, dtype=torch.int64),
        position_ids=torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]),
        lengths=torch.tensor([3, 2, 1, 4], dtype=torch.int32),
        pixels=torch.empty(0, 4, 4, 3, dtype=torch.uint8),
        pixel_positions=nothing,
        codes=torch.empty(0, 4, dtype=torch.int64),
        code_positions=nothing,
        text_label_positions=nothing,
        text_labels=nothing,
        text_label_tasks=nothing,
        uids=[],
        tasks=[],
    )
    merged = merge_documents(batch)
    assert merged.lengths.tolist() == [5, 5]
    assert merged.position_ids.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert merged.label_counts().tolist() == [0] * NUM_TASKS
    with pytest.raises(ValueError, match="without a single label"):
        accumulate(torch.nn.Identity(), [merged], ALONE, little_recipe(2))


def test_isolation_is_what_the_recipe_says(model: Path, corpus: Path, recipe: Recipe) -> None:
    open_recipe = replace(recipe, isolate_documents=False)
    isolated, crossing = (one_step(r, model, corpus)["loss"] for r in (recipe, open_recipe))
    assert abs(isolated - crossing) > 1e-5
