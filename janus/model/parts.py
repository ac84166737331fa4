"""The parts a Janus is made of, chosen by its configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, JanusConfig, JanusVisionConfig, JanusVQVAEConfig, PretrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.janus.modeling_janus import (
    JanusModel,
    JanusPreTrainedModel,
    JanusVisionAlignerMLP,
    JanusVisionModel,
    JanusVQVAEAlignerMLP,
    JanusVQVAEHead,
)

from janus.model.config import PATCH_VQ
from janus.model.patch_vq import PatchVQ
from janus.model.vq import VQ16


def vision_encoder(config: PretrainedConfig) -> nn.Module:
    """The understanding encoder: SigLIP as Janus has it, or any image encoder `AutoModel` knows.

    Its `last_hidden_state` ends with `config.num_image_tokens` patch features in reading order.
    """
    if isinstance(config, JanusVisionConfig):
        return JanusVisionModel._from_config(config)
    encoder = AutoModel.from_config(config)
    for module in encoder.modules():
        # Only masked pretraining reads it: as a parameter it would never get a gradient, which DDP does not forgive.
        if (token := module._parameters.pop("mask_token", None)) is not None:
            module.register_buffer("mask_token", token.data)
    return encoder


def vq_tokenizer(config: JanusVQVAEConfig) -> nn.Module:
    """The image tokenizer of the generation path: VQ-16, or the small one of the tiny preset.

    Raises ValueError for an unknown architecture.
    """
    architecture = getattr(config, "architecture", None)
    if architecture is None:
        return VQ16._from_config(config)
    if architecture == PATCH_VQ:
        return PatchVQ(config)
    raise ValueError(f"vq_config.architecture is {architecture!r}; known are {PATCH_VQ!r} and none (VQ-16)")


class JanusBody(JanusModel):
    """`JanusModel` with the same module tree, its encoder and VQ tokenizer chosen by the configuration."""

    def __init__(self, config: JanusConfig) -> None:
        # Not JanusModel.__init__: it would build the published encoder and VQ tokenizer whatever the configuration.
        JanusPreTrainedModel.__init__(self, config)
        vision, vq = config.vision_config, config.vq_config
        adaptor = JanusVisionConfig(
            hidden_size=vision.hidden_size, projection_dim=vision.projection_dim, depth=vision.depth
        )
        self.vision_model = vision_encoder(vision)
        self.aligner = JanusVisionAlignerMLP(adaptor)
        self.vqmodel = vq_tokenizer(vq)
        self.generation_embeddings = nn.Embedding(vq.num_embeddings, vq.embed_dim)
        self.generation_aligner = JanusVQVAEAlignerMLP(vq)
        self.generation_head = JanusVQVAEHead(vq)
        self.language_model = AutoModel.from_config(config.text_config)
        self.gradient_checkpointing = False
        self.post_init()

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Understanding features of float[U, 3, S, S]; `pooler_output` is [U, N_u, H] in the LLM's space.

        Class and register tokens, where an encoder has them, come first in its output and are left out.
        """
        features = self.vision_model(pixel_values, **kwargs).last_hidden_state
        features = features[:, -self.config.vision_config.num_image_tokens :]
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=self.aligner(features))
