"""Classifiers of transformers for signals, of pictures or texts, from a local folder or a hub id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.models.fingerprints import folder_digest, model_folder
from pipelines.row import Row
from pipelines.signals import Values
from pipelines.steps.device import Device, reproducible
from schemas.plugins import Options, did_you_mean
from schemas.spec import Precision

DECIMALS = 4
CHARS_PER_TOKEN = 16
"""More of a text than this per token that its model takes is not looked at."""


class ClassifierOptions(Options):
    """Which model."""

    model: str
    """Folder in the layout of transformers (config.json, model.safetensors, ...), or hub id."""
    precision: Precision = "fp32"
    """bf16 moves probabilities by about 0.01."""
    label: str
    """Name of the label whose probability is the score, as the model's config.json has it."""


def classifier_fingerprint(options: ClassifierOptions) -> dict[str, str]:
    """Digest of all files the model is read from. Raises ValueError or FileNotFoundError with one line."""
    folder = _folder(options)
    _label(folder, options)
    return {"model": folder_digest(folder)}


def _folder(options: ClassifierOptions) -> Path:
    folder = model_folder(options.model)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"model: {folder}: has no {name}")
    return folder


def _label(folder: Path, options: ClassifierOptions) -> int:
    """Number of the label."""
    try:
        config = json.loads((folder / "config.json").read_text())
        numbers = {str(name): int(number) for number, name in config["id2label"].items()}
    except (ValueError, KeyError, AttributeError):
        raise ValueError(f"model: {folder / 'config.json'}: has no id2label: no classifier") from None
    if options.label not in numbers:
        raise ValueError(f"label: the model has no label {options.label!r}{did_you_mean(options.label, numbers)}")
    return numbers[options.label]


class Classifier:
    """A model that gives each row the probability of one label, its `score`."""

    def __init__(self, options: ClassifierOptions, device: Device, kind: str) -> None:
        """`kind` is the class of transformers that loads the model."""
        import transformers

        self.folder = _folder(options)
        self._index = _label(self.folder, options)
        loader = getattr(transformers, kind)
        model = loader.from_pretrained(self.folder, use_safetensors=True, local_files_only=True).float()
        self.model = model.eval().to(device.name)
        self._device, self._precision = device.name, options.precision

    def scores(self, **inputs: Any) -> list[Values]:
        """Of a batch, to four decimals: by a softmax over the labels, or, where each stands by itself, a sigmoid."""
        with reproducible(self._precision, self._device):
            inputs = {name: value.to(self._device, non_blocking=True) for name, value in inputs.items()}
            logits = self.model(**inputs).logits.float()
            config = self.model.config
            alone = config.problem_type == "multi_label_classification" or config.num_labels == 1
            found = (logits.sigmoid() if alone else logits.softmax(dim=-1))[:, self._index]
        return [{"score": round(value, DECIMALS)} for value in found.tolist()]


class ImageClassifier(Classifier):
    """Of the first image."""

    def __init__(self, options: ClassifierOptions, device: Device) -> None:
        from transformers import AutoImageProcessor

        super().__init__(options, device, "AutoModelForImageClassification")
        self._processor = AutoImageProcessor.from_pretrained(self.folder, local_files_only=True)
        size = self._processor.size
        self._side = max(getattr(size, side, None) or 0 for side in ("height", "width", "shortest_edge"))

    def prepare(self, row: Row) -> Any:
        """The picture as the model was trained on it, float[3, H, W]."""
        picture = row.picture(2 * self._side)
        return self._processor(images=picture, return_tensors="pt")["pixel_values"][0]

    def measure(self, batch: Sequence[Any]) -> list[Values]:
        """One score each."""
        import torch

        return self.scores(pixel_values=torch.stack([*batch]))


class TextClassifier(Classifier):
    """Of all text of a row, as much as the model takes."""

    def __init__(self, options: ClassifierOptions, device: Device) -> None:
        from transformers import AutoTokenizer

        super().__init__(options, device, "AutoModelForSequenceClassification")
        self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        self._tokens = min(self._tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", 512))

    def prepare(self, row: Row) -> Any:
        """The beginning of the text."""
        return row.text[: CHARS_PER_TOKEN * self._tokens]

    def measure(self, batch: Sequence[Any]) -> list[Values]:
        """One score each."""
        inputs = self._tokenizer([*batch], padding=True, truncation=True, max_length=self._tokens, return_tensors="pt")
        return self.scores(**inputs)
