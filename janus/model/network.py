"""The Janus network: `JanusForConditionalGeneration` plus what training needs.

`transformers` has the modules and inference; it has no image loss, no packing and no mixed batches. `Janus` adds them
as one method and keeps module tree and state dict, so checkpoints are interchangeable (design D7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import JanusConfig, JanusForConditionalGeneration
from transformers.models.janus.modeling_janus import JanusPreTrainedModel

from janus.model import attention
from janus.model.loss import token_losses
from janus.model.parts import JanusBody
from janus.model.pixels import normalize
from janus.packed import NUM_TASKS, TASK_IDS, PackedBatch, TaskLosses

MODULES = {
    "understanding_encoder": "model.vision_model",
    "understanding_adaptor": "model.aligner",
    "vq": "model.vqmodel",
    "code_embedding": "model.generation_embeddings",
    "generation_adaptor": "model.generation_aligner",
    "image_head": "model.generation_head",
    "llm": "model.language_model",
    "text_head": "lm_head",
}
"""The paper's names of the parts (section 3.1) and where they are in the module tree."""


@dataclass(frozen=True)
class InputPath:
    """A modality's way into the LLM: features of its values take the places of its placeholder tokens."""

    values: str
    """Field of the batch that holds the values, one a row."""
    positions: str
    """Field of the batch with the flat positions that take their features, value by value."""
    features: Callable[[Any, torch.Tensor], torch.Tensor]
    """Of the model and the values: [N, n, H], n features of each value."""
    stand_in: Callable[[Any, torch.Tensor], torch.Tensor]
    """Of the model and the empty values: a single value, for a batch without any."""


def _black_image(model: Janus, pixels: torch.Tensor) -> torch.Tensor:
    side = model.config.vision_config.image_size
    return pixels.new_zeros(1, side, side, 3)


UNDERSTANDING = InputPath("pixels", "pixel_positions", lambda model, pixels: model.image_features(pixels), _black_image)
GENERATION = InputPath(
    "codes",
    "code_positions",
    lambda model, codes: model.prepare_embeddings_for_image_generation(codes),
    lambda model, codes: codes.new_zeros(1, 1),
)


class Janus(JanusForConditionalGeneration):
    """A Janus that can be trained on packed, mixed batches.

    Everything `JanusForConditionalGeneration` does, it does too. Differences: the LLM uses the `packed` attention
    (the same as sdpa outside training), the text head is never tied to the embeddings, and the VQ tokenizer follows the
    official rule and stays in evaluation mode.

    Random weights, in training mode but for the VQ tokenizer. Works under `torch.device("meta")`.
    """

    module_paths: ClassVar[Mapping[str, str]] = MODULES
    """Parts that a recipe may name, and where they are; a class with more of them adds its own."""
    input_paths: ClassVar[tuple[InputPath, ...]] = (UNDERSTANDING, GENERATION)
    """Modalities that come in beside words, in the order they are put in; a third one is added the same way."""
    # Tying would overwrite the text head the moment anybody calls tie_weights(); no Janus is tied.
    _tied_weights_keys = None

    def __init__(self, config: JanusConfig) -> None:
        # Not the parent's __init__: it would build the published parts whatever the configuration (see JanusBody).
        JanusPreTrainedModel.__init__(self, config)
        config.tie_word_embeddings = False
        config.text_config.tie_word_embeddings = False
        self.model = JanusBody(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()
        self.model.vqmodel.requires_grad_(False).eval()
        self.model.language_model.config._attn_implementation = attention.NAME

    def train(self, mode: bool = True) -> Janus:
        """Set training mode, except for the VQ tokenizer, which no stage trains (paper section 3.3)."""
        super().train(mode)
        self.model.vqmodel.eval()
        return self

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Understanding features in the LLM's space.

        Args:
            pixels: uint8[U, S, S, 3], or float[U, 3, S, S] in [-1, 1].

        Returns:
            [U, N_u, H].
        """
        if pixels.dtype == torch.uint8:
            pixels = normalize(pixels)
        return self.model.get_image_features(pixels).pooler_output

    def packed_loss(self, batch: PackedBatch) -> TaskLosses:
        """Summed cross-entropy and token count per task of one packed, mixed micro-batch (design D10).

        Every head runs at its own labels only. A batch without images, codes or text labels still runs each part once
        on a stand-in whose contribution is multiplied by zero: every rank then does the same collective operations
        and every trainable parameter gets a gradient, so neither DDP nor FSDP waits for ever.
        """
        embeddings, idle = self.embed(batch)
        packing = attention.Packing(batch.lengths, batch.input_ids.shape[1])
        hidden = self.model.language_model(
            inputs_embeds=embeddings,
            position_ids=batch.position_ids,
            attention_mask=packing.mask,
            packing=packing,
            use_cache=False,
        ).last_hidden_state.flatten(0, 1)

        text = self._head_losses(hidden, self.lm_head, batch.text_label_positions, batch.text_labels)
        # The hidden state before a code predicts it: `<begin_of_image>` predicts code 0.
        image = self._head_losses(hidden, self.model.generation_head, batch.code_positions - 1, batch.codes.flatten())
        # Sums over masks: an index_add would add on a GPU in whatever order its threads come. Not products with masks
        # either, by which a loss that is not finite would spread to the other tasks.
        tasks = torch.arange(NUM_TASKS, device=hidden.device)
        sums = torch.zeros(NUM_TASKS, device=hidden.device)
        if len(batch.text_labels):
            sums = torch.where(batch.text_label_tasks == tasks[:, None], text, 0.0).sum(dim=1)
        else:
            idle = idle + text.sum()
        if batch.codes.numel():
            sums = torch.where(tasks == TASK_IDS["generation"], sums + image.sum(), sums)
        else:
            idle = idle + image.sum()
        return TaskLosses(sums=sums + 0.0 * idle, counts=batch.label_counts())

    def embed(self, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Input embeddings [B, L, H], and the sum of what stand-ins for missing modalities gave."""
        words = self.get_input_embeddings()(batch.input_ids)
        flat = words.flatten(0, 1)
        idle = torch.zeros((), device=words.device)
        for path in self.input_paths:
            values = getattr(batch, path.values)
            if len(values):
                features = path.features(self, values).flatten(0, 1).to(flat.dtype)
                flat = flat.index_copy(0, getattr(batch, path.positions), features)
            else:
                idle = idle + path.features(self, path.stand_in(self, values)).float().sum()
        return flat.view_as(words), idle

    @staticmethod
    def _head_losses(
        hidden: torch.Tensor, head: nn.Module, positions: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """float32[T] at `positions`; without any, the loss of one stand-in label."""
        if not len(labels):
            positions, labels = positions.new_zeros(1), labels.new_zeros(1)
        last = head.vision_head if hasattr(head, "vision_head") else head
        return token_losses(hidden.index_select(0, positions), head, labels, classes=last.out_features)
