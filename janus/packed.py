"""The packed batch: what the loader hands to the model (floor 2, shared by janus.data and janus.model).

Shape legend: B packs, L tokens per pack, D documents, U understanding images, G generated images, S side in pixels,
N_u tokens per understanding image, N_g codes per generated image. "Flat position" means an index into B*L.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch

from schemas.sample import TASKS

TASK_IDS = {str(task): number for number, task in enumerate(TASKS)}
"""Task numbers used in `text_label_tasks` and in every per-task tensor."""
NUM_TASKS = len(TASK_IDS)


@dataclass
class PackedBatch:
    """One micro-batch of whole documents laid end to end in B packs of L tokens.

    Documents never cross a pack and never see each other. The unused tail of a pack is one more "document" of padding,
    counted in `lengths` and carrying no labels. Labels are positions whose hidden state predicts the *next* token, so
    the shift is already done: the hidden state at `<begin_of_image>` predicts code 0 (design D10).
    """

    input_ids: torch.Tensor
    """int64[B, L]. Image placeholders hold the image token's id."""
    position_ids: torch.Tensor
    """int64[B, L], from 0 in every document."""
    lengths: torch.Tensor
    """int32[D]: tokens of each document in flat order, padding tails included; sums to B*L."""
    pixels: torch.Tensor
    """uint8[U, S, S, 3]: understanding images in flat order."""
    pixel_positions: torch.Tensor
    """int64[U*N_u]: flat positions that take the image features, image by image."""
    codes: torch.Tensor
    """int64[G, N_g]: VQ codes of generated images in flat order."""
    code_positions: torch.Tensor
    """int64[G*N_g]: flat positions that take the code embeddings. The label of code k is at position - 1."""
    text_label_positions: torch.Tensor
    """int64[T]: flat positions whose hidden state predicts a text token."""
    text_labels: torch.Tensor
    """int64[T]."""
    text_label_tasks: torch.Tensor
    """int64[T]: TASK_IDS of each text label."""
    uids: list[bytes]
    """Uids of the documents, padding tails left out, in flat order: for error messages and order tests."""
    tasks: list[str]
    """Task of each document in `uids`."""
    padding: list[int] = field(default_factory=list)
    """Lengths of the padding tails, which are in `lengths` too."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> PackedBatch:
        """The same batch on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory, for asynchronous copies to the GPU."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackedBatch:
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return replace(self, **{k: change(v) for k, v in values.items() if isinstance(v, torch.Tensor)})

    def label_counts(self) -> torch.Tensor:
        """int64[NUM_TASKS]: supervised tokens per task (text labels by their task, codes as generation)."""
        # Not bincount, which makes the host wait for the GPU.
        counts = self.text_labels.new_zeros(NUM_TASKS)
        counts.index_add_(0, self.text_label_tasks, torch.ones_like(self.text_label_tasks))
        counts[TASK_IDS["generation"]] += self.codes.numel()
        return counts


@dataclass
class TaskLosses:
    """What one forward of a packed batch returns. The caller divides by the global label count (design D10)."""

    sums: torch.Tensor
    """float32[NUM_TASKS]: summed cross-entropy per task, with gradient."""
    counts: torch.Tensor
    """int64[NUM_TASKS]: supervised tokens per task."""
