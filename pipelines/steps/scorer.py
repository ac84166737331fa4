"""How well a caption fits its image: the cosine of their open_clip embeddings.

Any open_clip architecture (or a JSON model config) with any pretrained tag (or a local weights file: safetensors, or
torch loaded with weights_only). Scores are rounded to four decimals, which hides the last bits of float sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.steps.device import Device, reproducible
from schemas.digest import digest, file_sha256
from schemas.spec import Scorer

DECIMALS = 4


def fingerprint(scorer: Scorer) -> str:
    """What the scorer is: digests of the files it is read from; a name only where open_clip's own tables define it."""
    model, weights = Path(scorer.model), Path(scorer.pretrained)
    return digest(
        {
            "model": file_sha256(model) if model.suffix == ".json" else scorer.model,
            "pretrained": file_sha256(weights) if weights.is_file() else scorer.pretrained,
            "precision": scorer.precision,
        }
    )


def check(scorer: Scorer) -> None:
    """Raise FileNotFoundError or ValueError with one line if the scorer's files or names do not exist."""
    import open_clip

    name = scorer.model
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"models.scorer.model: {name}: no such file")
    elif name not in open_clip.list_models():
        raise ValueError(f"models.scorer.model: open_clip has no architecture {name!r} (a local one is a .json file)")
    elif not Path(scorer.pretrained).is_file() and scorer.pretrained not in open_clip.list_pretrained_tags_by_model(
        name
    ):
        raise ValueError(
            f"models.scorer.pretrained: {scorer.pretrained!r} is no local file and no open_clip tag of {name}"
        )
    if name.endswith(".json") and not Path(scorer.pretrained).is_file():
        raise FileNotFoundError(f"models.scorer.pretrained: {scorer.pretrained}: no such file")


class CaptionScorer:
    """A loaded scorer."""

    def __init__(self, scorer: Scorer, device: Device) -> None:
        import open_clip

        import janus.model.clip_tower  # noqa: F401  (makes the tiny preset's image tower known to timm)

        name = scorer.model
        if name.endswith(".json"):
            open_clip.add_model_config(name)
            name = Path(name).stem
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=scorer.pretrained, device=device.name, weights_only=True
        )
        self._model = model.eval()
        self._device = device.name
        self._precision = scorer.precision
        self._tokenize: Callable[[list[str]], Any] = open_clip.get_tokenizer(name)
        self.preprocess: Callable[[Image.Image], Any] = preprocess
        """PIL image to float[3, S, S], as the model was trained."""
        size = model.visual.image_size
        self.side = max(size) if isinstance(size, tuple | list) else size
        """S, pixels."""

    def scores(self, images: Sequence[Any], captions: Sequence[str]) -> list[float]:
        """Cosine per pair of a preprocessed image float[3, S, S] and a caption; rounded to four decimals."""
        import torch

        with reproducible(self._precision, self._device):
            pixels = torch.stack(list(images)).to(self._device, non_blocking=True)
            tokens = self._tokenize(list(captions)).to(self._device, non_blocking=True)
            image = self._model.encode_image(pixels, normalize=True)
            text = self._model.encode_text(tokens, normalize=True)
            cosines = (image.float() * text.float()).sum(dim=-1)
        return [round(value, DECIMALS) for value in cosines.tolist()]
