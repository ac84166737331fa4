"""GenEval's own detector: Mask2Former with Swin-S, through transformers, and colours by CLIP ViT-L/14.

What OpenMMLab's inference does is done here step by step: the picture is resized to 800 pixels on its short side (1,333
on the long one at most), masks come back to the picture's size, and of all pairs of query and class the 100 likeliest
become objects, with the class's probability times the mean of the mask as confidence. Colours are read as in GenEval's
`evaluate_images.py`: the object is cut out, its surroundings painted #999, and CLIP chooses among ten colours.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from janus.evaluate.convert_detector import CLASSES, UNUSED
from janus.evaluate.geneval import THRESHOLD, Detection
from schemas.digest import digest, file_sha256

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import Mask2FormerForUniversalSegmentation

SHORT_SIDE, LONG_SIDE = 800, 1333
MULTIPLE = 32
"""Pictures are padded to multiples of this."""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OBJECTS = 100
"""Pairs of query and class that are looked at."""
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
BACKGROUND = "#999"
COLOR_MODEL, COLOR_WEIGHTS = "ViT-L-14", "openai"
_TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


class Mask2FormerDetector:
    """Finds the 80 classes of COCO, with their masks, and names the colour of what it found."""

    def __init__(
        self,
        model: Mask2FormerForUniversalSegmentation,
        read_colors: Callable[[Image.Image, str, list[Image.Image]], list[str | None]] | None = None,
        least: float = THRESHOLD,
    ) -> None:
        """`least`: confidence up to which objects are left out; GenEval counts none below."""
        self._model, self._read_colors, self._least = model.eval(), read_colors, least

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Objects of `image` uint8[H, W, 3], the surest first."""
        from PIL import Image

        boxes, labels, scores, masks = self.instances(image)
        kept = [index for index in scores.argsort(descending=True).tolist() if scores[index] > self._least]
        colors: dict[int, str | None] = {}
        if self._read_colors is not None:
            picture = Image.fromarray(image)
            for label in {int(labels[index]) for index in kept}:
                same = [index for index in kept if labels[index] == label]
                cut = [_cut_out(picture, _corners(boxes[index]), masks[index].cpu().numpy()) for index in same]
                colors |= zip(same, self._read_colors(picture, CLASSES[label], cut), strict=True)
        return [
            Detection(CLASSES[int(labels[index])], _corners(boxes[index]), float(scores[index]), colors.get(index))
            for index in kept
        ]

    def instances(self, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """All candidates of `image` uint8[H, W, 3], in no order.

        Returns:
            boxes float32[100, 4] (left, top, right, bottom; right and bottom exclusive), labels int64[100], confidences
            float32[100], masks bool[100, H, W].
        """
        import torch
        from torch.nn import functional

        height, width = image.shape[:2]
        pixels = resized(image).to(self._model.device)
        inner = pixels.shape[-2:]
        padding = [-side % MULTIPLE for side in inner]
        with torch.inference_mode():
            padded = functional.pad(pixels, (0, padding[1], 0, padding[0]))
            found = self._model(pixel_values=padded[None].to(self._model.dtype))
            probabilities = found.class_queries_logits[0].float().softmax(-1)[:, :-1]  # (Q, 80)
            scores, best = probabilities.flatten().topk(OBJECTS, sorted=False)
            logits = found.masks_queries_logits[:, best // probabilities.shape[1]].float()
            logits = functional.interpolate(logits, padded.shape[-2:], mode="bilinear", align_corners=False)
            logits = logits[..., : inner[0], : inner[1]]
            logits = functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0]
        masks = logits > 0
        areas = masks.flatten(1).sum(1)
        confidence = (logits.sigmoid() * masks).flatten(1).sum(1) / (areas + 1e-6)
        return _boxes(masks), best % probabilities.shape[1], scores * confidence, masks


def resized(image: np.ndarray) -> torch.Tensor:
    """`image` uint8[H, W, 3] as the model takes it, float32[3, h, w], without padding.

    Bilinear without smoothing, rounded to whole values, as OpenCV does it (its fixed-point arithmetic may differ by 1).
    """
    import torch
    from torch.nn import functional

    height, width = image.shape[:2]
    scale = min(LONG_SIDE / max(height, width), SHORT_SIDE / min(height, width))
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False).round()[0]
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _boxes(masks: torch.Tensor) -> torch.Tensor:
    """float32[N, 4] around masks bool[N, H, W]; zeros for an empty one."""
    import torch

    boxes = torch.zeros(len(masks), 4, device=masks.device)
    for index, mask in enumerate(masks):
        rows, columns = torch.where(mask.any(1))[0], torch.where(mask.any(0))[0]
        if len(rows):
            boxes[index] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
    return boxes


def _corners(box: torch.Tensor) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom


def _cut_out(picture: Image.Image, box: tuple[float, float, float, float], mask: np.ndarray) -> Image.Image:
    """The object alone, before BACKGROUND."""
    from PIL import Image

    blank = Image.new("RGB", picture.size, BACKGROUND)
    left, top, right, bottom = map(round, box)
    return Image.composite(picture, blank, Image.fromarray(mask)).crop((left, top, right, bottom))


class ColorReader:
    """Names the colour of objects by CLIP, zero-shot, with GenEval's three sentences for each of the ten colours."""

    def __init__(self, weights: str, device: str) -> None:
        """`weights`: a tag of open_clip's, or a local file of it. Raises ValueError with one line."""
        import open_clip
        from safetensors import SafetensorError

        self._device = device
        try:
            # OpenAI's weights go with QuickGELU, which open_clip knows of its tag and not of a file.
            self._model, _, self._preprocess = open_clip.create_model_and_transforms(
                COLOR_MODEL, pretrained=weights, device=device, force_quick_gelu=True, weights_only=True
            )
        except (RuntimeError, pickle.UnpicklingError, OSError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"--color-weights {weights}: not weights of {COLOR_MODEL}: {reason}") from None
        self._model.eval()
        self._tokenize = open_clip.get_tokenizer(COLOR_MODEL)
        self._classifiers: dict[str, torch.Tensor] = {}

    def __call__(self, picture: Image.Image, name: str, objects: list[Image.Image]) -> list[str | None]:
        """The colour of each of `objects`, cut out of `picture`, all of the class `name`; None for an empty one."""
        import torch
        from torch.nn import functional

        seen = [index for index, one in enumerate(objects) if min(one.size) > 0]
        colors: list[str | None] = [None] * len(objects)
        if not seen:
            return colors
        with torch.inference_mode():
            batch = torch.stack([self._preprocess(objects[index]) for index in seen]).to(self._device)
            features = functional.normalize(self._model.encode_image(batch), dim=-1)
            for index, best in zip(seen, (features @ self._classifier(name)).argmax(1).tolist(), strict=True):
                colors[index] = COLORS[best]
        return colors

    def _classifier(self, name: str) -> torch.Tensor:
        """float32[D, 10]: for each colour the mean of its sentences' embeddings."""
        import torch
        from torch.nn import functional

        if name not in self._classifiers:
            columns = []
            for color in COLORS:
                sentences = [template.format(color=color, name=name) for template in _TEMPLATES]
                text = self._model.encode_text(self._tokenize(sentences).to(self._device))
                columns.append(functional.normalize(functional.normalize(text, dim=-1).mean(0), dim=-1))
            self._classifiers[name] = torch.stack(columns, 1)
        return self._classifiers[name]


@cache
def origin(weights: str, color_weights: str = "") -> str:
    """Whose weights find objects and colours, with digests: "OpenMMLab 0123456789ab, colours openai".

    A run asks several times; more than a gigabyte is hashed at the first.

    Raises ValueError or FileNotFoundError with one line if they cannot be read.
    """
    folder = _folder(weights)
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not found: expected a folder that convert_detector wrote") from None
    except (ValueError, AttributeError):
        raise ValueError(f"{path}: not the configuration of a model") from None
    if kind != "mask2former":
        raise ValueError(f"{path}: model_type {kind!r}, expected 'mask2former'")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no .safetensors file there: expected the detector's weights")
    name = config.get("weights_from") or Path(weights).name
    return f"{name} {digest([file_sha256(file) for file in files])[:12]}, colours {_color_origin(color_weights)}"


def _color_origin(weights: str) -> str:
    try:
        import open_clip
    except ModuleNotFoundError:
        raise ValueError("colours need open_clip: pip install 'janus-forge[pipelines]'") from None
    if Path(weights or COLOR_WEIGHTS).is_file():
        return file_sha256(weights)[:12]
    tags = open_clip.list_pretrained_tags_by_model(COLOR_MODEL)
    if (weights or COLOR_WEIGHTS) not in tags:
        raise ValueError(f"--color-weights {weights}: no such file, and no tag of open_clip's {COLOR_MODEL}")
    return weights or COLOR_WEIGHTS


def _folder(weights: str) -> Path:
    from janus.model.checkpoints.hub import local_folder

    if not weights:
        raise ValueError(
            "the detector mask2former needs weights (--geneval.weights): a folder that convert_detector wrote"
        )
    return local_folder(weights, weights=True)


def load(device: str, weights: str = "", color_weights: str = "") -> Mask2FormerDetector:
    """The detector. Raises ValueError or FileNotFoundError with one line.

    Args:
        device: of both models.
        weights: folder of `convert_detector`, or another Mask2Former for COCO instances, or its hub id.
        color_weights: open_clip's weights for ViT-L/14: a file, or a tag; OpenAI's if empty.
    """
    from safetensors import SafetensorError
    from transformers import Mask2FormerForUniversalSegmentation

    origin(weights, color_weights)
    try:
        model, loading = Mask2FormerForUniversalSegmentation.from_pretrained(
            _folder(weights), output_loading_info=True, use_safetensors=True
        )
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(
            f"{weights}: not the weights of its config.json: {str(error).strip().splitlines()[0]}"
        ) from None
    if missing := set(loading["missing_keys"]) - set(UNUSED):
        raise ValueError(f"{weights}: the weights lack {min(missing)}")
    if model.config.num_labels != len(CLASSES):
        raise ValueError(
            f"{weights}: {model.config.num_labels} classes; expected the {len(CLASSES)} of COCO's instances"
        )
    return Mask2FormerDetector(model.to(device), ColorReader(color_weights or COLOR_WEIGHTS, device))
