"""One step has one loss and one gradient, however its packs are spread over micro-batches and processes (D10)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from janus.data.loader import Loader
from janus.model.folder import load_janus
from janus.packed import NUM_TASKS, PackedBatch
from janus.train.gradients import Clipper
from janus.train.loop import token_ids
from janus.train.optim import freeze
from janus.train.parallel import parallelize
from janus.train.recipe import Parallel, Recipe
from janus.train.step import LossModule, accumulate, merge_documents
from janus.train.world import World, join_world
from schemas.manifest import load_snapshot
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks

ALONE = World(0, 1, torch.device("cpu"), None, 1)


def one_step(recipe: Recipe, model: Path, corpus: Path, world: World = ALONE) -> dict[str, torch.Tensor]:
    """Loss ("loss"), tokens ("tokens"), norms ("norms") and whole gradients by name, of the first step."""
    torch.set_num_threads(1)
    janus, processor = load_janus(model)
    loader = Loader(
        corpus,
        load_snapshot(corpus),
        data=recipe.data,
        tokens=token_ids(processor),
        steps=recipe.steps,
        rank=world.rank,
        world_size=world.size,
    )
    freeze(janus, recipe.train)
    module, shards = parallelize(LossModule(janus, isolate_documents=recipe.isolate_documents), recipe, world)
    done = accumulate(module, next(iter(loader)), world, recipe)
    parameters = {name: p for name, p in janus.named_parameters() if p.requires_grad}
    norms = Clipper(parameters, float("inf"), shards).clip()
    total = world.sum([float(done.sums.double().sum())])[0]
    gradients = {}
    for name, parameter in parameters.items():
        gradient = parameter.grad
        assert gradient is not None
        gradients[name] = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return {
        "loss": torch.tensor(total / sum(done.global_tokens)),
        "tokens": torch.tensor(done.global_tokens),
        "batch": torch.tensor([done.samples, done.fingerprint]),
        "norms": norms,
        **gradients,
    }


def one_step_of_ranks(recipe: Recipe, model: Path, corpus: Path) -> dict[str, torch.Tensor] | None:
    with join_world("cpu") as world:
        found = one_step(recipe, model, corpus, world)
        return {name: tensor.clone() for name, tensor in found.items()} if world.is_main else None


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    assert torch.equal(found["tokens"], expected["tokens"])
    assert torch.equal(found["batch"], expected["batch"])
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Stage 3 with eight sequences, seven of them in one micro-batch or less."""
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


@pytest.mark.parametrize(
    ("mode", "size"), [("ddp", 2), ("fsdp", 2), pytest.param("ddp", 4, marks=pytest.mark.slow), ("hybrid", 2)]
)
def test_processes_change_nothing(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path, mode: str, size: int
) -> None:
    """Two micro-batches on each rank, so gradients also cross ranks only once."""
    adamw = replace(recipe.optimizer, name="adamw")
    spread = replace(
        recipe,
        optimizer=adamw,
        parallel=replace(recipe.parallel, mode=mode),
        data=replace(recipe.data, micro_batch=8 // size // 2),
    )
    found = run_ranks(size, one_step_of_ranks, spread, model, corpus)[0]
    assert_same(found, whole, 1e-6)


@pytest.mark.parametrize("ratio", [(0, 1, 0), (1, 0, 1)])
def test_ranks_without_a_modality_do_not_hang(model: Path, corpus: Path, ratio: tuple[int, int, int]) -> None:
    """One sequence for two ranks: one of them holds nothing but padding."""
    start = little_recipe(3)
    recipe = replace(
        start,
        optimizer=replace(start.optimizer, name="adamw"),
        data=replace(start.data, ratio=ratio, sequences=1, micro_batch=1),
    )
    expected = one_step(recipe, model, corpus)
    for mode in ("ddp", "fsdp"):
        spread = replace(recipe, parallel=replace(recipe.parallel, mode=mode))
        assert_same(run_ranks(2, one_step_of_ranks, spread, model, corpus)[0], expected, 1e-6)


@pytest.mark.parametrize("kind", ["selective", "full"])
def test_recomputation_changes_nothing(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path, kind: str
) -> None:
    recomputed = replace(recipe, parallel=Parallel(mode="ddp", activation_checkpoint=kind))
    assert_same(one_step(recomputed, model, corpus), whole, 0.0)


def test_bf16_computes_in_bf16_and_keeps_fp32_masters(
    whole: dict[str, torch.Tensor], recipe: Recipe, model: Path, corpus: Path
) -> None:
    adamw = replace(recipe.optimizer, name="adamw")
    bf16 = replace(recipe, precision="bf16", optimizer=adamw, parallel=Parallel(mode="fsdp"))
    found = run_ranks(1, bf16_step, bf16, model, corpus)[0]
    assert 1e-6 < abs(found["loss"] - whole["loss"]) < 2e-2
    for name, gradient in found.items():
        assert gradient.dtype in (torch.float32, torch.float64, torch.int64), name
    torch.testing.assert_close(found["norms"], whole["norms"], rtol=0.05, atol=1e-3)


def bf16_step(recipe: Recipe, model: Path, corpus: Path) -> dict[str, torch.Tensor]:
    with join_world("cpu", process_groups=True) as world:
        return {name: tensor.clone() for name, tensor in one_step(recipe, model, corpus, world).items()}


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
