"""Forward and backward of one optimiser step over its micro-batches, with a mean over the tokens of all ranks.

The loss of a step is the sum of cross-entropies over every supervised token of the global batch, divided by their
number (design D10). So a step has the same loss and gradients however its packs are spread over ranks and
micro-batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from janus.model.network import Janus
from janus.packed import NUM_TASKS, PackedBatch, TaskLosses
from janus.train.recipe import Recipe
from janus.train.world import World


class LossModule(nn.Module):
    """`Janus.packed_loss` as a forward, so that DDP and FSDP can wrap it.

    `packed_loss` gives every trained parameter a gradient in every backward, zero if the batch has nothing for it. So
    ranks whose micro-batch lacks images, codes or text labels take part in the same collectives as the others, and
    weight decay and momentum do not depend on how samples fell on ranks.
    """

    def __init__(self, janus: Janus, *, isolate_documents: bool = True) -> None:
        super().__init__()
        self.janus = janus
        self.isolate_documents = isolate_documents

    def forward(self, batch: PackedBatch) -> TaskLosses:
        """Summed cross-entropy and label count per task of one micro-batch."""
        return self.janus.packed_loss(batch if self.isolate_documents else merge_documents(batch))


def merge_documents(batch: PackedBatch) -> PackedBatch:
    """The same batch with each pack as one document: attention and positions run through it."""
    packs, length = batch.input_ids.shape
    return replace(
        batch,
        lengths=torch.full((packs,), length, dtype=batch.lengths.dtype, device=batch.lengths.device),
        position_ids=torch.arange(length, device=batch.position_ids.device).expand(packs, length),
    )


@dataclass
class Accumulated:
    """What the forward and backward of one step leave behind, besides gradients."""

    sums: torch.Tensor
    """float32[M, NUM_TASKS]: summed cross-entropy of this rank's M micro-batches, on the device."""
    global_tokens: list[int]
    """Supervised tokens per task over all ranks and micro-batches."""
    samples: int
    """Documents of the global batch."""
    fingerprint: int
    """Sum of the first four bytes of all their uids: equal for equal global batches, however they are spread."""
    stop: bool
    """Some rank was asked to stop."""


def accumulate(
    module: nn.Module, batches: Sequence[PackedBatch], world: World, recipe: Recipe, *, stop: bool = False
) -> Accumulated:
    """Add the gradients of one global step to the parameters.

    Args:
        module: a LossModule, or one wrapped in DDP or FSDP.
        batches: this rank's micro-batches, on the host; every rank has the same number.
        stop: whether this rank was asked to stop; the answer of all ranks comes back.

    Raises ValueError if the step has not a single supervised token.
    """
    local = torch.stack([batch.label_counts() for batch in batches]).sum(dim=0).tolist()
    uids = [uid for batch in batches for uid in batch.uids]
    uid_sum = sum(int.from_bytes(uid[:4], "little") for uid in uids)
    *counts, samples, fingerprint, stops = world.sum([*local, len(uids), uid_sum, stop])
    if not sum(counts):
        raise ValueError("a step without a single label: sequences are too few or too short for this data")
    # DDP and FSDP average gradients over ranks; the mean wanted is over tokens.
    scale = world.size / sum(counts)
    sums = torch.zeros(len(batches), NUM_TASKS, device=world.device)
    for number, batch in enumerate(batches):
        with _gradient_sync(module, last=number == len(batches) - 1):
            with precision_context(recipe, world.device):
                losses: TaskLosses = module(batch.to(world.device, non_blocking=True))
            (losses.sums.sum() * scale).backward()
        sums[number] = losses.sums.detach()
    return Accumulated(sums, [int(count) for count in counts], int(samples), int(fingerprint), stops > 0)


def precision_context(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Where the forward runs: under bf16 autocast if the recipe says so."""
    if recipe.precision == "autocast":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _gradient_sync(module: nn.Module, *, last: bool) -> Iterator[None]:
    """Exchange gradients between copies of the weights in the last micro-batch only.

    FSDP adds those of every micro-batch to the shards at once: put off, they would be whole on every rank until then.
    """
    if isinstance(module, FSDPModule):
        module.set_requires_all_reduce(last)
        module.set_is_last_backward(last)
        yield
    elif isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
    else:
        yield
