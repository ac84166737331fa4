"""The image tower that the tiny preset's open_clip model and understanding encoder have in common.

It is timm's `VisionTransformer` in SigLIP's form: no class token, learned positions, a layer norm on every patch. Under
the name `janus_tiny_vit` it is known to timm, and so to any open_clip config that names it, once this module is
imported. timm and `JanusVisionModel` compute the same; only names and the input's scaling differ.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from transformers import JanusVisionConfig

NAME = "janus_tiny_vit"
SHAPE: dict[str, Any] = {
    "img_size": 64,
    "patch_size": 16,
    "embed_dim": 128,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
}


@register_model
def janus_tiny_vit(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """The tower, with random weights. timm also says in `kwargs` where published weights are: there are none."""
    if pretrained:
        raise ValueError(f"{NAME} has no published weights")
    tower = VisionTransformer(**SHAPE, class_token=False, global_pool="avg", fc_norm=False)
    tower.default_cfg = {"pool_size": None}  # open_clip asks whether the features are a grid
    return tower


def vision_weights(tower: dict[str, torch.Tensor], mean: torch.Tensor, std: torch.Tensor) -> dict[str, torch.Tensor]:
    """The tower's weights under the names of `JanusVisionModel`.

    Args:
        tower: state dict of `janus_tiny_vit`.
        mean: float[3], std: float[3]: the scaling of the tower's input, (pixel - mean) / std for pixels in [0, 1].
            Janus scales to [-1, 1]; the difference goes into the patch embedding.
    """
    kernel, bias = tower["patch_embed.proj.weight"], tower["patch_embed.proj.bias"]  # [W, 3, p, p], [W]
    shift = ((0.5 - mean) / std).view(1, 3, 1, 1)
    weights = {
        "embeddings.patch_embedding.weight": kernel / (2 * std).view(1, 3, 1, 1),
        "embeddings.patch_embedding.bias": bias + (kernel * shift).sum((1, 2, 3)),
        "embeddings.position_embedding.weight": tower["pos_embed"][0],
    }
    for part in ("weight", "bias"):
        weights[f"post_layernorm.{part}"] = tower[f"norm.{part}"]
        for layer in range(sum(name.endswith("norm1.weight") for name in tower)):
            ours, theirs = f"encoder.layers.{layer}", f"blocks.{layer}"
            for name, value in zip("qkv", tower[f"{theirs}.attn.qkv.{part}"].chunk(3), strict=True):
                weights[f"{ours}.self_attn.{name}_proj.{part}"] = value
            weights[f"{ours}.self_attn.projection_layer.{part}"] = tower[f"{theirs}.attn.proj.{part}"]
            weights[f"{ours}.layer_norm1.{part}"] = tower[f"{theirs}.norm1.{part}"]
            weights[f"{ours}.layer_norm2.{part}"] = tower[f"{theirs}.norm2.{part}"]
            weights[f"{ours}.mlp.fc1.{part}"] = tower[f"{theirs}.mlp.fc1.{part}"]
            weights[f"{ours}.mlp.fc2.{part}"] = tower[f"{theirs}.mlp.fc2.{part}"]
    return {name: value.clone().contiguous() for name, value in weights.items()}


def vision_config() -> JanusVisionConfig:
    """The configuration of the understanding encoder that has the tower's shape."""
    return JanusVisionConfig(
        hidden_size=SHAPE["embed_dim"],
        num_hidden_layers=SHAPE["depth"],
        num_attention_heads=SHAPE["num_heads"],
        mlp_ratio=SHAPE["mlp_ratio"],
        image_size=SHAPE["img_size"],
        patch_size=SHAPE["patch_size"],
    )
