"""One step has one loss and one gradient, however its packs are spread over micro-batches and processes (D10)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from janus.packed import NUM_TASKS, PackedBatch
from janus.train.recipe import Parallel, Recipe
from janus.train.step import accumulate, merge_documents
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks
from tests.train.steps import ALONE, one_step, steps_of_ranks

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
        # Two micro-batches on each rank: gradients cross ranks in the second only.
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
