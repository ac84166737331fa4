"""How one step is laid over devices: recomputation and compilation per layer, then DDP or FSDP2 around all.

The order matters: checkpointing goes inside compilation, and both inside FSDP's hooks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.attention import varlen  # noqa: F401 (registers its operator)
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from janus.train.recipe import Parallel, Recipe
from janus.train.step import LossModule
from janus.train.world import World

KEPT_BY_SELECTIVE = (
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    # `janus.model.attention` on a GPU. The flash kernel inside it is out of the policy's sight.
    torch.ops.torch_attn._varlen_attn.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
)
"""What selective activation checkpointing keeps: products and attention, costly to compute, small to store."""


def parallelize(module: LossModule, recipe: Recipe, world: World) -> tuple[nn.Module, dist.ProcessGroup | None]:
    """Prepare `module` (on its device, trained parameters chosen) for training.

    Returns the module to call, and the group over which each gradient is sharded (None where it is whole).
    Raises ValueError where the layout does not fit the processes.
    """
    config = recipe.parallel
    if config.compile or config.activation_checkpoint != "none":
        for layer in _layers(module):
            layer.forward = _layer_forward(layer.forward, config)
    if config.activation_checkpoint != "none":
        for layer in _trained_encoder_layers(module):
            layer.forward = _layer_forward(layer.forward, replace(config, compile=False))
    # No step runs it, since codes are computed before training: it takes no room on a GPU, and part in no collective.
    vq = module.janus.model.vqmodel.to("cpu")
    sharded = config.mode in ("fsdp", "hybrid") and (world.size > 1 or recipe.precision == "bf16")
    if not sharded:
        if world.size == 1:
            return module, None
        return _data_parallel(module, vq), None
    mesh = _mesh(config, world)
    policy = MixedPrecisionPolicy()
    if recipe.precision == "bf16":
        # Inputs keep their type: ids and document boundaries have none to change, features follow the weights.
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # Encoder and embeddings run once in every forward, on a stand-in if need be, so all ranks gather them alike. Heads
    # run once per chunk of labels, of which ranks have different numbers: they and the adaptors are the root's, which
    # is gathered once whatever they do.
    body = module.janus.model
    parts: list[nn.Module] = [body.vision_model, body.language_model.get_input_embeddings(), *_layers(module)]
    for part in parts:
        fully_shard(part, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=set(vq.parameters()))
    return module, mesh["shard"].get_group()


def _data_parallel(module: LossModule, ignored: nn.Module) -> DistributedDataParallel:
    """DDP whose sums are the same in a resumed run, and which leaves the part `ignored` alone.

    No parameter is ever unused; `find_unused_parameters` is there for its side effect. Without it DDP lays its buckets
    out anew after the first step it sees, and with more than two ranks a sum's rounding depends on its place in one.
    """
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    # Newer torch has another name for `broadcast_buffers`, which older torch does not know.
    warnings.filterwarnings("ignore", message="`broadcast_buffers`")
    inside = {id(tensor) for tensor in (*ignored.parameters(), *ignored.buffers())}
    names = [n for n, tensor in (*module.named_parameters(), *module.named_buffers()) if id(tensor) in inside]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
    return DistributedDataParallel(
        module, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
    )


def _layers(module: LossModule) -> list[nn.Module]:
    return list(module.janus.model.language_model.layers)


def _trained_encoder_layers(module: LossModule) -> list[nn.Module]:
    """Layers of the understanding encoder if it trains; a frozen one keeps nothing that could be recomputed."""
    encoder = module.janus.model.vision_model
    lists: list[nn.Module] = [part for part in encoder.modules() if isinstance(part, nn.ModuleList)]
    if not lists or not any(parameter.requires_grad for parameter in encoder.parameters()):
        return []
    # Of whatever class it is, its layers are the longest list of weights.
    longest = max(lists, key=lambda part: sum(parameter.numel() for parameter in part.parameters()))
    return list(longest.children())


def _layer_forward(forward: Callable[..., Any], config: Parallel) -> Callable[..., Any]:
    if config.activation_checkpoint == "full":
        forward = partial(checkpoint, forward, use_reentrant=False)
    elif config.activation_checkpoint == "selective":
        contexts = partial(create_selective_checkpoint_contexts, _keep)
        forward = partial(checkpoint, forward, use_reentrant=False, context_fn=contexts)
    return torch.compile(forward) if config.compile else forward


def _keep(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in KEPT_BY_SELECTIVE else CheckpointPolicy.PREFER_RECOMPUTE


def _mesh(config: Parallel, world: World) -> DeviceMesh:
    """Mesh with a dimension "shard", inside one of "replicate" for hybrid sharding."""
    kind = world.device.type
    if config.mode == "fsdp":
        return init_device_mesh(kind, (world.size,), mesh_dim_names=("shard",))
    if world.size % world.local_size:
        raise ValueError(f"--parallel.mode hybrid: {world.size} processes do not fill nodes of {world.local_size}")
    shape = (world.size // world.local_size, world.local_size)
    return init_device_mesh(kind, shape, mesh_dim_names=("replicate", "shard"))


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP holds the weights in pieces."""
    return isinstance(module, FSDPModule)
