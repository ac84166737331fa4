"""FID (arXiv 1706.08500): how far two sets of pictures lie apart as InceptionV3 sees them, computed by torch-fidelity.

Features are summed up and not kept, so that a set of any size takes the memory of one covariance (34 MB).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from schemas.digest import file_sha256

if TYPE_CHECKING:
    from PIL import Image

FEATURES = 2048
"""Of the last pooling of InceptionV3."""


class Moments:
    """Mean and covariance of features that come batch by batch."""

    def __init__(self, width: int = FEATURES) -> None:
        self.count = 0
        self._sum = np.zeros(width)
        self._products = np.zeros((width, width))

    def add(self, features: np.ndarray) -> None:
        """Count in float[N, width]."""
        features = np.asarray(features, np.float64)
        self.count += len(features)
        self._sum += features.sum(0)
        self._products += features.T @ features

    def __iadd__(self, other: Moments) -> Moments:
        self.count += other.count
        self._sum += other._sum
        self._products += other._products
        return self

    def statistics(self) -> dict[str, np.ndarray]:
        """`mu` float64[width] and `sigma` float64[width, width]. Raises ValueError for fewer than two pictures."""
        if self.count < 2:
            raise ValueError(f"FID of {self.count} pictures: expected two or more")
        mean = self._sum / self.count
        return {"mu": mean, "sigma": (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)}


def fid(first: Moments, second: Moments) -> float:
    """The distance of two sets. Raises ValueError with one line without torch-fidelity."""
    _torch_fidelity()
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    return float(fid_statistics_to_metric(first.statistics(), second.statistics(), verbose=False)[KEY_METRIC_FID])


class Inception:
    """InceptionV3 as torch-fidelity builds it. It enlarges or reduces pictures to 299 pixels, as TensorFlow 1 does."""

    def __init__(self, weights: Path, device: str) -> None:
        """Read the weights: of torch-fidelity's own file, or in safetensors.

        Raises ValueError or FileNotFoundError with one line; code in the file is not run.
        """
        import torch

        from janus.model.checkpoints.tensors import read_tensor_file

        _torch_fidelity()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        # The extractor unpickles whatever its file holds. It is given a copy that was written here, of tensors alone.
        copy = io.BytesIO()
        torch.save(read_tensor_file(weights), copy)
        copy.seek(0)
        try:
            model = FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=copy
            )
        except RuntimeError as error:
            problem = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"{weights}: not the weights of torch-fidelity's InceptionV3: {problem}") from None
        self._model, self._device = model.to(device), device

    def features(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """float32[N, 2048] of RGB pictures of one size."""
        import torch

        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return self._model(pixels.to(self._device))[0].cpu().numpy()


@cache
def inception_name(weights: Path) -> str:
    """Library and weights, as a result names them. Raises ValueError or FileNotFoundError with one line."""
    version = _torch_fidelity()
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no such file; expected InceptionV3's weights, as torch-fidelity has them")
    return f"torch-fidelity {version}, Inception {file_sha256(weights)[:12]}"


def _torch_fidelity() -> str:
    """Its version."""
    from importlib import metadata

    try:
        return metadata.version("torch-fidelity")
    except metadata.PackageNotFoundError:
        raise ValueError("FID needs torch-fidelity: pip install 'janus-forge[fid]'") from None
