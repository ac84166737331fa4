"""open_clip models for signals: one loaded model for all that name it, and each picture through it once.

Any open_clip architecture (or a JSON model config) with any pretrained tag (or a local weights file: safetensors, or
torch loaded with weights_only).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pipelines.row import Row
from pipelines.steps.device import Device, reproducible
from schemas.digest import file_sha256
from schemas.plugins import Options
from schemas.spec import Precision


class ClipOptions(Options):
    """Which model."""

    model: str
    """open_clip architecture name, or path of a JSON model config."""
    pretrained: str
    """open_clip tag, or path of a local weights file."""
    precision: Precision = "fp32"
    """bf16 moves cosines by about 0.001."""


def clip_fingerprint(options: ClipOptions) -> dict[str, str]:
    """Digests of the files the model is read from; names where open_clip's own tables say what they are.

    Raises ValueError or FileNotFoundError with one line where they do not exist.
    """
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


def embedding_size(options: ClipOptions) -> int:
    """Length of the model's embeddings, from its config."""
    return int(_config(options.model)["embed_dim"])


def load_clip(options: ClipOptions, device: Device) -> Clip:
    """The model on the device; the same one for the same options, as long as a signal holds it."""
    key = (_state(options.model), _state(options.pretrained), options.precision, device.name)
    with _lock:
        found = _loaded.get(key)
        if found is None:
            found = _loaded[key] = Clip(options.model, options.pretrained, options.precision, device.name)
        return found


_lock = threading.Lock()
_loaded: WeakValueDictionary[Any, Clip] = WeakValueDictionary()


def _state(name: str) -> tuple[Any, ...]:
    """A name, and of a file its size and time: other weights under the same name are another model."""
    with contextlib.suppress(OSError):
        stat = os.stat(name)
        return name, stat.st_size, stat.st_mtime_ns
    return (name,)


def _config(model: str) -> dict[str, Any]:
    import open_clip

    if model.endswith(".json"):
        open_clip.add_model_config(model)
        model = Path(model).stem
    config: dict[str, Any] = open_clip.get_model_config(model)
    return config


class Clip:
    """A loaded open_clip model. See `load_clip`."""

    def __init__(self, model: str, pretrained: str, precision: Precision, device: str) -> None:
        import open_clip

        import janus.model.clip_tower  # noqa: F401  (makes the tiny preset's image tower known to timm)

        _config(model)
        name = Path(model).stem if model.endswith(".json") else model
        loaded, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=pretrained, device=device, weights_only=True
        )
        self._model = loaded.eval()
        self._device, self._precision = device, precision
        self._tokenize: Callable[[list[str]], Any] = open_clip.get_tokenizer(name)
        self._preprocess: Callable[[Any], Any] = preprocess
        size = loaded.visual.image_size
        self._side = max(size) if isinstance(size, tuple | list) else size
        self._last: dict[int, tuple[Any, Any]] = {}

    @property
    def temperature(self) -> float:
        """What cosines are multiplied with before a softmax."""
        return float(self._model.logit_scale.detach().exp())

    def pixels(self, row: Row) -> Any:
        """The row's picture as the model was trained on it, float[3, S, S]: one tensor for all that ask."""
        found = row.shared.get(self)
        if found is None:
            found = row.shared[self] = self._preprocess(row.picture(2 * self._side))
        return found

    def images(self, pixels: Sequence[Any]) -> Any:
        """Unit embeddings of pictures, float32[N, D] on the device.

        Those of the last call are kept: signals with one model get the same batch one after the other.
        """
        import torch

        last = self._last
        known = {id(one): last[id(one)] for one in pixels if id(one) in last}
        new = [one for one in pixels if id(one) not in known]
        if new:
            with reproducible(self._precision, self._device):
                batch = torch.stack(new).to(self._device, non_blocking=True)
                found = self._model.encode_image(batch, normalize=True).float()
            # The pixels are held with their embeddings: as long as they are, no other tensor has their id.
            known |= {id(one): (one, vector) for one, vector in zip(new, found, strict=True)}
            self._last = known
        return torch.stack([known[id(one)][1] for one in pixels])

    def texts(self, texts: Sequence[str]) -> Any:
        """Unit embeddings of texts, float32[N, D] on the device."""
        with reproducible(self._precision, self._device):
            tokens = self._tokenize([*texts]).to(self._device, non_blocking=True)
            return self._model.encode_text(tokens, normalize=True).float()
