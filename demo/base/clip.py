"""Fits the small open_clip model: it scores captions, and its image tower becomes the understanding encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from demo.base.optimize import Optimizer
from janus.model import clip_tower

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "model.safetensors"
CONFIG: dict[str, Any] = {
    "embed_dim": 96,
    "vision_cfg": {
        "timm_model_name": clip_tower.NAME,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": clip_tower.SHAPE["img_size"],
    },
    "text_cfg": {"context_length": 52, "vocab_size": 49408, "width": 96, "heads": 2, "layers": 2},
}
"""An ordinary open_clip model config, with open_clip's own tokenizer."""

STEPS = 160
BATCH = 128


def fit_clip(
    pictures: np.ndarray, captions: Sequence[str], seed: int, tick: Callable[[float], None]
) -> open_clip.CustomTextCLIP:
    """A model fitted to pairs of `pictures` (uint8[N, S, S, 3]) and captions with the symmetric contrastive loss.

    `tick(loss)` is called after every step.
    """
    torch.manual_seed(seed)
    model = open_clip.CLIP(**CONFIG)
    tokens = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])(list(captions))
    used, tokens = tokens.unique(return_inverse=True)  # keeps the order: the text's end stays the greatest id
    whole = model.token_embedding
    model.token_embedding = nn.Embedding.from_pretrained(whole.weight[used].detach().clone(), freeze=False)

    pixels = torch.from_numpy(pictures)
    scaling = [
        torch.tensor(values).view(3, 1, 1) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    ]
    outer = ("visual.trunk.patch_embed", "visual.head", "token_embedding", "positional_embedding", "text_projection")
    optimizer = Optimizer(model, muon=0.02, adamw=2e-3, steps=STEPS, not_hidden=outer)
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(BATCH)
    for _ in range(STEPS):
        chosen = torch.randperm(len(pixels), generator=generator)[:BATCH]
        images = (pixels[chosen].permute(0, 3, 1, 2).float() / 255 - scaling[0]) / scaling[1]
        image = model.encode_image(images, normalize=True)
        text = model.encode_text(tokens[chosen], normalize=True)
        logits = model.logit_scale.exp() * image @ text.T
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.step(loss)
        tick(float(loss.detach()))

    whole.weight.data[used] = model.token_embedding.weight.data
    model.token_embedding = whole
    return model.eval()


def understanding_weights(model: open_clip.CLIP) -> dict[str, torch.Tensor]:
    """The image tower's weights as those of a `JanusVisionModel`."""
    mean, std = (torch.tensor(values) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    return clip_tower.vision_weights(model.visual.trunk.state_dict(), mean, std)


def save_clip(folder: Path, model: open_clip.CLIP) -> None:
    """Write config and weights as open_clip reads them from disk."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(CONFIG, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS_FILE)
