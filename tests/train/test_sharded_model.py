"""A model out of a run whose weights lie in uneven pieces on its processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from janus.model.checkpoints.model_folder import load_janus
from janus.train.loop import train
from janus.train.recipe import Parallel, Recipe
from janus.train.record import Inputs
from tests.train.little import little_recipe
from tests.train.ranks import run_ranks
from tests.train.steps import QUIET

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def sharded_recipe() -> Recipe:
    """One step of stage 1, sharded."""
    start = little_recipe(1, steps=1)
    return replace(start, optimizer=replace(start.optimizer, name="adamw"), parallel=Parallel(mode="fsdp"))


def train_quietly(recipe: Recipe, inputs: Inputs) -> bool:
    torch.set_num_threads(1)
    return train(recipe, inputs, QUIET, device="cpu")


def test_dimensions_that_do_not_divide_are_written_whole(model: Path, corpus: Path, tmp_path: Path) -> None:
    """Three processes: none of the dimensions 4, 16, 32, 64 divides by 3."""
    assert all(run_ranks(3, train_quietly, sharded_recipe(), Inputs(model, corpus, tmp_path / "run")))
    before, after = (load_janus(folder)[0].state_dict() for folder in (model, tmp_path / "run" / "model"))
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = tuple(f"model.{part}." for part in ("aligner", "generation_aligner", "generation_head"))
    assert changed
    assert all(name.startswith((*trained, "model.generation_embeddings.")) for name in changed)
