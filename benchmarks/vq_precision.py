"""Do bf16 VQ codes equal fp32 codes? Prints the share that agrees, and what the disagreement costs in the picture.

    python benchmarks/vq_precision.py MODEL IMAGES [--size 384] [--limit 64]

MODEL is a Janus folder or LlamaGen's vq_ds16_t2i.pt; IMAGES a folder of pictures. All encode the same
pixels: fp32, bf16 autocast, pure bf16. The default of `load_vq` was chosen from this table (docs/model.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn

from janus.images import ImageProblem, load_rgb
from janus.model.checkpoints.model_folder import load_vq
from janus.model.pixels import generation_pixels, normalize
from janus.model.vq import decode_codes, encode_codes

BATCH = 8


def pictures(folder: Path, size: int, limit: int) -> torch.Tensor:
    """float[N, 3, size, size] of the first pictures of `folder` that open."""
    squares = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") and len(squares) < limit:
            try:
                squares.append(generation_pixels(load_rgb(path.read_bytes()), size))
            except ImageProblem:
                continue
    if not squares:
        raise SystemExit(f"{folder}: no picture here opens")
    return normalize(torch.from_numpy(np.stack(squares)))


def psnr(images: torch.Tensor, originals: torch.Tensor) -> float:
    """Of pictures in [-1, 1], decibels."""
    error = F.mse_loss(images.float().cpu(), originals)
    return float(10 * torch.log10(4 / error))


def codes_of(vq: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    return torch.cat([encode_codes(vq, part) for part in pixels.split(BATCH)]).cpu()


def main(
    model: Annotated[Path, tyro.conf.Positional],
    images: Annotated[Path, tyro.conf.Positional],
    size: int = 384,
    limit: int = 64,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Compare the codes of `images` in three precisions."""
    pixels = pictures(images, size, limit)
    exact = load_vq(model, device, image_size=size)
    reference = codes_of(exact, pixels)
    print(f"{len(pixels)} pictures, {size} px, {reference.shape[1]} codes each, {device}, torch {torch.__version__}")
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        autocast = codes_of(exact, pixels)
    rounded = codes_of(load_vq(model, device, torch.bfloat16, image_size=size), pixels)
    print(f"{'encoder':<16}{'codes as fp32':>16}{'PSNR of the decoded picture':>30}")
    for name, codes in {"fp32": reference, "bf16 autocast": autocast, "pure bf16": rounded}.items():
        decoded = torch.cat([decode_codes(exact, part) for part in codes.split(BATCH)])
        print(f"{name:<16}{(codes == reference).float().mean():>15.2%}{psnr(decoded, pixels):>27.2f} dB")


if __name__ == "__main__":
    tyro.cli(main)
