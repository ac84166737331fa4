"""How well a caption fits its image: the cosine of their open_clip embeddings.

Any open_clip architecture (or a JSON model config) with any pretrained tag (or a local weights file: safetensors, or
torch loaded with weights_only). Scores are rounded to four decimals, which hides the last bits of float sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.row import Row
from pipelines.signals import Device, Values
from pipelines.signals import Options as Base
from pipelines.steps.device import reproducible
from schemas.digest import file_sha256
from schemas.spec import Precision

VERSION = 1
FIELDS = {"cosine": pa.float32()}
NEEDS = ("picture", "caption")
DECIMALS = 4


class Options(Base):
    """Which model."""

    model: str
    """open_clip architecture name, or path of a JSON model config."""
    pretrained: str
    """open_clip tag, or path of a local weights file."""
    precision: Precision = "fp32"
    """bf16 moves scores by about 0.001."""


def fingerprint(options: Options) -> dict[str, str]:
    """Digests of the files the model is read from; names where open_clip's own tables say what they are."""
    model, weights = Path(options.model), Path(options.pretrained)
    if model.suffix == ".json":
        for option, file in (("model", model), ("pretrained", weights)):
            if not file.is_file():
                raise FileNotFoundError(f"{option}: {file}: no such file")
        return {"model": file_sha256(model), "pretrained": file_sha256(weights)}
    import open_clip

    if options.model not in open_clip.list_models():
        raise ValueError(f"model: open_clip has no architecture {options.model!r} (a local one is a .json file)")
    if weights.is_file():
        return {"pretrained": file_sha256(weights)}
    if options.pretrained not in open_clip.list_pretrained_tags_by_model(options.model):
        raise ValueError(f"pretrained: {options.pretrained!r} is no local file and no open_clip tag of {options.model}")
    return {}


class Model:
    """A loaded open_clip model."""

    def __init__(self, options: Options, device: Device) -> None:
        import open_clip

        import janus.model.clip_tower  # noqa: F401  (makes the tiny preset's image tower known to timm)

        name = options.model
        if name.endswith(".json"):
            open_clip.add_model_config(name)
            name = Path(name).stem
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=options.pretrained, device=device.name, weights_only=True
        )
        self._model = model.eval()
        self._device, self._precision = device.name, options.precision
        self._tokenize: Callable[[list[str]], Any] = open_clip.get_tokenizer(name)
        self._preprocess: Callable[[Any], Any] = preprocess
        size = model.visual.image_size
        self._side = max(size) if isinstance(size, tuple | list) else size

    def prepare(self, row: Row) -> tuple[Any, str]:
        """The picture as the model was trained on it, float[3, S, S], and the caption."""
        return self._preprocess(row.picture(2 * self._side)), row.caption or ""

    def measure(self, batch: Sequence[tuple[Any, str]]) -> list[Values]:
        """Cosine per pair, rounded to four decimals."""
        import torch

        with reproducible(self._precision, self._device):
            pixels = torch.stack([pixels for pixels, _ in batch]).to(self._device, non_blocking=True)
            tokens = self._tokenize([caption for _, caption in batch]).to(self._device, non_blocking=True)
            image = self._model.encode_image(pixels, normalize=True)
            text = self._model.encode_text(tokens, normalize=True)
            cosines = (image.float() * text.float()).sum(dim=-1)
        return [{"cosine": round(value, DECIMALS)} for value in cosines.tolist()]
