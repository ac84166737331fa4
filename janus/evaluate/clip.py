"""CLIP as a judge of pictures: CMMD (arXiv 2401.09603) of two sets, and how well a picture goes with its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from janus.evaluate.squares import square
from janus.evaluate.weights import judge_name, model_folder

if TYPE_CHECKING:
    import torch
    from PIL import Image

SIGMA = 10.0
"""Width of CMMD's kernel ..."""
SCALE = 1000.0
"""... and what the distance is multiplied by, both as in its paper (section 3)."""
_ROWS = 1024
"""Rows of the kernel's matrix at once."""


class Clip:
    """A CLIP model of a transformers folder, in float32. Embeddings have length 1."""

    def __init__(self, weights: str, device: str) -> None:
        """Load it from a folder or hub id. Raises ValueError or FileNotFoundError with one line."""
        from safetensors import SafetensorError
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        clip_name(weights)
        folder = model_folder(weights)
        try:
            model, loading = CLIPModel.from_pretrained(folder, output_loading_info=True, use_safetensors=True)
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            processor = AutoImageProcessor.from_pretrained(folder)
        except (RuntimeError, OSError, ValueError, SafetensorError) as error:
            problem = str(error).strip().splitlines()[0]
            raise ValueError(f"{weights}: not a CLIP model with its tokenizer: {problem}") from None
        if missing := set(loading["missing_keys"]):
            raise ValueError(f"{weights}: the weights lack {min(missing)}")
        self._model, self._device = model.float().to(device).eval(), device
        self._mean, self._std = (np.asarray(one, np.float32) for one in (processor.image_mean, processor.image_std))

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """float32[N, D] of RGB pictures: cropped to their middle square, bicubic to the model's size."""
        import torch
        from PIL.Image import Resampling

        side = self._model.config.vision_config.image_size
        pixels = np.stack([np.asarray(square(picture, side, Resampling.BICUBIC)) for picture in pictures])
        normal = (pixels.astype(np.float32) / 255 - self._mean) / self._std
        with torch.inference_mode():
            seen = self._model.vision_model(torch.from_numpy(normal).permute(0, 3, 1, 2).to(self._device))
            return _unit(self._model.visual_projection(seen.pooler_output))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32[N, D]; a text that is longer than the model takes is cut."""
        import torch

        longest = self._model.config.text_config.max_position_embeddings
        words = self._tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            read = self._model.text_model(
                input_ids=words["input_ids"].to(self._device), attention_mask=words["attention_mask"].to(self._device)
            )
            return _unit(self._model.text_projection(read.pooler_output))


def cmmd(first: np.ndarray, second: np.ndarray) -> float:
    """1000 times the squared maximum mean discrepancy of two sets of embeddings, float[N, D] and float[M, D].

    As in the paper's code, a point counts as its own neighbour (the biased estimate).
    """
    return SCALE * (_kernel_mean(first, first) + _kernel_mean(second, second) - 2 * _kernel_mean(first, second))


def _kernel_mean(first: np.ndarray, second: np.ndarray) -> float:
    """Mean over all pairs of exp(-|x - y|^2 / (2 sigma^2)), some rows at a time."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    lengths = (second**2).sum(1)
    total = 0.0
    for start in range(0, len(first), _ROWS):
        rows = first[start : start + _ROWS]
        distances = (rows**2).sum(1)[:, None] + lengths - 2 * rows @ second.T
        total += float(np.exp(-np.maximum(distances, 0) / (2 * SIGMA**2)).sum())
    return total / (len(first) * len(second))


def clip_name(weights: str) -> str:
    """A model as results name it. Raises ValueError or FileNotFoundError with one line if it is none of CLIP's."""
    return judge_name(weights, "clip")


def _unit(embeddings: torch.Tensor) -> np.ndarray:
    from torch.nn import functional

    return functional.normalize(embeddings, dim=-1).cpu().numpy()
