"""Whole weights out of a model in training, however it is laid over processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers.initialization import no_init_weights

from janus.model.checkpoints.adapter import merge_adapter, write_adapter
from janus.model.checkpoints.model_folder import VQ_PREFIX, open_model, write_janus
from janus.model.device import cast
from janus.model.lora import LoraLinear, merge_tensors
from janus.model.network import MODULES, Janus
from janus.model.processor import Processor
from janus.train.parallel import is_sharded
from janus.train.recipe import Recipe
from janus.train.record import Inputs
from janus.train.step import LossModule
from janus.train.trained import adapter_of
from janus.train.world import World


def full_tensors(module: LossModule, *, trained_only: bool = False) -> dict[str, torch.Tensor]:
    """The state dict of the Janus in `module`. All ranks must call; sharded weights are whole on rank 0 only."""
    if not is_sharded(module):
        state = module.janus.state_dict()
        wanted = {name for name, p in module.janus.named_parameters() if p.requires_grad} if trained_only else state
        return {name: tensor for name, tensor in state.items() if name in wanted}
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    gathered = get_model_state_dict(module, options=options)
    return {name.removeprefix("janus."): _alone(tensor) for name, tensor in gathered.items()}


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that fills its storage. Gathered from pieces of unequal size it is a view into padded memory, which
    no file of tensors takes.
    """
    fills = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if fills else tensor.clone()


def write_model(folder: Path, module: LossModule, processor: Processor, world: World, dtype: torch.dtype) -> None:
    """Write a Hugging Face Janus folder of `dtype`. All ranks must call; rank 0 writes, the others wait."""
    tensors = full_tensors(module)
    with world.agreed():
        if world.is_main:
            write_janus(folder, in_type(tensors, dtype), module.janus.config, processor)


def in_type(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights as `dtype`, but for those of the VQ tokenizer: a rounded one makes other codes."""
    return {
        name: tensor if name.startswith(VQ_PREFIX) or not tensor.is_floating_point() else tensor.to(dtype)
        for name, tensor in tensors.items()
    }


def write_adapted(inputs: Inputs, recipe: Recipe, module: LossModule, processor: Processor, world: World) -> None:
    """Write `adapter`, and `model` with it merged in, to the run folder. All ranks must call; rank 0 writes.

    Merged in float32 into the weights of the starting model as they are stored, not as training rounded them; the
    result has their type.
    """
    trained = full_tensors(module, trained_only=True)
    with world.agreed():
        if world.is_main:
            adapter, folder = adapter_of(recipe.lora), inputs.out / "adapter"
            whole = [MODULES[name] for name in recipe.train]
            write_adapter(folder, adapter, trained, whole=whole, base=str(inputs.model))
            on_host = {name: tensor.detach().cpu() for name, tensor in trained.items()}
            tensors = merge_adapter(open_model(inputs.model).tensors(), adapter, on_host, where=str(folder))
            write_janus(inputs.out / "model", tensors, module.janus.config, processor)


def plain_copy(module: LossModule, world: World) -> Janus | None:
    """A Janus to sample from: the trained one itself, or a whole bf16 copy of a sharded one; None but on rank 0."""
    if not is_sharded(module):
        return module.janus if world.is_main else None
    tensors = full_tensors(module)
    if not world.is_main:
        return None
    with no_init_weights():
        copy = Janus(module.janus.config)
    adapter = next((layer.adapter for layer in module.modules() if isinstance(layer, LoraLinear)), None)
    copy.load_state_dict(tensors if adapter is None else merge_tensors(tensors, adapter), assign=True)
    cast(copy, torch.bfloat16)
    return copy.to(world.device).eval()
