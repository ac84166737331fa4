"""Whole weights out of a model in training, however it is laid over processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers.initialization import no_init_weights

from janus.model.checkpoints.model_folder import write_janus
from janus.model.device import cast
from janus.model.network import Janus
from janus.model.processor import Processor
from janus.train.parallel import is_sharded
from janus.train.step import LossModule
from janus.train.world import World


def full_tensors(module: LossModule) -> dict[str, torch.Tensor]:
    """The state dict of the Janus in `module`. All ranks must call; sharded weights are whole on rank 0 only."""
    if not is_sharded(module):
        return module.janus.state_dict()
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered = get_model_state_dict(module, options=options)
    return {name.removeprefix("janus."): _alone(tensor) for name, tensor in gathered.items()}


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that fills its storage. Gathered from pieces of unequal size it is a view into padded memory, which
    no file of tensors takes.
    """
    fills = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if fills else tensor.clone()


def write_model(folder: Path, module: LossModule, processor: Processor, world: World) -> None:
    """Write a Hugging Face Janus folder. All ranks must call; rank 0 writes, the others wait."""
    tensors = full_tensors(module)
    with world.agreed():
        if world.is_main:
            write_janus(folder, tensors, module.janus.config, processor)


def plain_copy(module: LossModule, world: World) -> Janus | None:
    """A Janus to sample from: the trained one itself, or a whole bf16 copy of a sharded one; None but on rank 0."""
    if not is_sharded(module):
        return module.janus if world.is_main else None
    tensors = full_tensors(module)
    if not world.is_main:
        return None
    with no_init_weights():
        copy = Janus(module.janus.config)
    copy.load_state_dict(tensors, assign=True)
    cast(copy, torch.bfloat16)
    return copy.to(world.device).eval()
