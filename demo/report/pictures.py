"""Pictures for the report: as data URIs, and through the VQ tokenizer and back."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


def png_uri(image: np.ndarray | Image.Image) -> str:
    """A picture (uint8[H, W, 3] or Pillow) as a `data:` URI that needs no file."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def open_rgb(path: Path) -> Image.Image:
    """A trusted picture of ours as RGB."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


@dataclass(frozen=True)
class Reconstruction:
    """An image, and what the VQ tokenizer makes of it."""

    original: np.ndarray
    rebuilt: np.ndarray
    """Both uint8[S, S, 3]."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, dB: higher is closer."""
        error = np.mean((self.original.astype(np.float64) - self.rebuilt.astype(np.float64)) ** 2)
        return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def reconstruct(janus: Path, images: Sequence[Path]) -> list[Reconstruction]:
    """Encode images to codes and decode them again with the VQ tokenizer of the Janus folder `janus`."""
    import torch

    from janus.model.checkpoints.model_folder import load_processor, load_vq
    from janus.model.vq import decode_codes, encode_codes

    processor = load_processor(janus)
    vq = load_vq(janus)
    pixels = np.stack([processor.generation_pixels(open_rgb(path)) for path in images])
    with torch.no_grad():
        rebuilt = decode_codes(vq, encode_codes(vq, processor.normalize(torch.from_numpy(pixels))))
    back = ((rebuilt.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Reconstruction(original, image) for original, image in zip(pixels, back, strict=True)]
