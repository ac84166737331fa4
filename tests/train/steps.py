"""The first step of a recipe, measured: for the tests that compare ways of computing it."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from janus.data.loader import Loader
from janus.model.checkpoints.model_folder import load_janus
from janus.train.gradients import Clipper
from janus.train.loop import token_ids
from janus.train.optim import freeze
from janus.train.parallel import parallelize
from janus.train.recipe import Recipe
from janus.train.step import LossModule, accumulate
from janus.train.world import World, join_world
from schemas.manifest import load_snapshot

QUIET = Console(quiet=True)
ALONE = World(0, 1, torch.device("cpu"), None, 1)


def one_step(recipe: Recipe, model: Path, corpus: Path, world: World = ALONE) -> dict[str, torch.Tensor]:
    """Loss ("loss"), tokens ("tokens"), norms ("norms") and whole gradients by name, of the first step."""
    torch.set_num_threads(1)
    janus, processor = load_janus(model)
    loader = Loader(
        corpus,
        load_snapshot(corpus),
        data=recipe.data,
        tokens=token_ids(processor, janus),
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


def steps_of_ranks(recipes: dict[str, Recipe], model: Path, corpus: Path) -> dict[str, dict[str, torch.Tensor]]:
    """`one_step` of each recipe, in one of the processes of a run."""
    with join_world("cpu", process_groups=True) as world:
        return {name: one_step(recipe, model, corpus, world) for name, recipe in recipes.items()}
