"""How pleasing a picture is to people, about 1 to 10: a linear head on its open_clip embedding.

Two published heads, whose files are read as they are:

- improved-aesthetic-predictor ("LAION-Aesthetics V2"): five linear layers, `layers.{0,2,4,6,7}.weight` and `.bias`,
  with nothing but dropout between them, e.g. sac+logos+ava1-l14-linearMSE.pth, for ViT-L-14 of OpenAI;
- aesthetic-predictor ("V1"): one layer, `weight` and `bias`, e.g. sa_0_4_vit_l_14_linear.pth and .._vit_b_32_..

A head belongs to the open_clip model that it was trained on; both have embeddings of unit length as input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.models.clip import ClipOptions, clip_fingerprint, embedding_size, load_clip
from pipelines.row import Row
from pipelines.signals import Device, Values
from schemas.digest import file_sha256

VERSION = 1
FIELDS = {"score": pa.float32()}
NEEDS = ("picture",)
DECIMALS = 3

LAYOUTS = (("",), tuple(f"layers.{index}." for index in (0, 2, 4, 6, 7)))
"""What the names of the layers begin with, V1 and V2. Heads with ReLUs between have other numbers."""


class Options(ClipOptions):
    """Which model, and which head on it."""

    head: str
    """File of the head: .pth (read with weights_only) or .safetensors."""


def fingerprint(options: Options) -> dict[str, str]:
    """Of the model, and the head's digest. Raises ValueError or FileNotFoundError with one line."""
    found = clip_fingerprint(options)
    size, width = read_head(options.head)[0][0].shape[1], embedding_size(options)
    if size != width:
        raise ValueError(f"head: {options.head}: for embeddings of {size} numbers; those of the model have {width}")
    return found | {"head": file_sha256(options.head)}


def read_head(path: str) -> list[tuple[Any, Any]]:
    """Weight float32[out, in] and bias float32[out] of each layer. Raises ValueError or FileNotFoundError."""
    from janus.model.checkpoints.tensors import read_tensor_file

    try:
        tensors = read_tensor_file(Path(path))
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"head: {error}") from None
    for prefixes in LAYOUTS:
        if tensors.keys() == {prefix + kind for prefix in prefixes for kind in ("weight", "bias")}:
            layers = [(tensors[f"{prefix}weight"].float(), tensors[f"{prefix}bias"].float()) for prefix in prefixes]
            sizes = [weight.shape[0] for weight, _ in layers]
            if [weight.shape[1] for weight, _ in layers[1:]] == sizes[:-1] and sizes[-1] == 1:
                return layers
    raise ValueError(f"head: {path}: not the layers of a linear aesthetic head (found {_names(tensors)})")


def _names(tensors: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in [*tensors.items()][:4]) or "nothing"


class Model:
    """An open_clip model with a head."""

    def __init__(self, options: Options, device: Device) -> None:
        self._clip = load_clip(options, device)
        self._layers = read_head(options.head)

    def prepare(self, row: Row) -> Any:
        """The picture, float[3, S, S]."""
        return self._clip.pixels(row)

    def measure(self, batch: Sequence[Any]) -> list[Values]:
        """One score each, to three decimals."""
        values = self._clip.images(batch).cpu()
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return [{"score": round(score, DECIMALS)} for score in values[:, 0].tolist()]
