"""The two models of a corpus build: VQ codes and caption scores per second, batched as the steps do, and one by one.

    python -m benchmarks.pipeline_models [--images 1024] [--rounds 3]

Random weights of the real shapes: the VQ-16 tokenizer of Janus at 384 px, and open_clip's ViT-L-14. Pixels are in host
memory already (decoding is `benchmarks.pipeline`'s part); copying them to the device is counted. Each line names its
precision: `fp32` is the default of the steps, because the nearest of 16,384 codes flips with fewer bits; `bf16` is what
`tokenize.vq_precision` and `signals.caption_score.precision` can ask for, with the share of the results that it keeps.
The ceiling is the dense peak on the vendor's data sheet over the FLOPs (2 per multiply-add). Results, with hardware and
date: benchmarks/pipeline.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training import hardware
from janus.model.parts import vq_tokenizer
from janus.model.pixels import normalize
from janus.model.presets import preset_config
from janus.model.vq import encode_codes
from janus.train.world import choose_device
from pipelines.steps.device import reproducible
from schemas.spec import Precision

PEAKS = {
    "H200": {"fp32": 67e12, "bf16": 989e12},
    "H100 PCIe": {"fp32": 51e12, "bf16": 756e12},
    "H100": {"fp32": 67e12, "bf16": 989e12},
    "A100": {"fp32": 19.5e12, "bf16": 312e12},
}
"""Dense FLOP/s by a part of the device name, first match; vendor data sheets."""

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    precision: str
    batch: int
    per_second: float
    flops: float
    """Of one image."""
    result: torch.Tensor


def flops_per_image(run: Run, pixels: torch.Tensor) -> float:
    """FLOPs of `run` on one image."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(pixels[:1])
    return float(counter.get_total_flops())


def measure(
    name: str,
    run: Run,
    pixels: torch.Tensor,
    settings: Sequence[tuple[Precision, int]],
    rounds: int,
    device: torch.device,
) -> list[Line]:
    """Median rate of `run` over uint8[N, S, S, 3] in host memory for each (precision, batch), taking turns."""
    flops = flops_per_image(run, pixels)
    seconds: dict[tuple[Precision, int], list[float]] = {setting: [] for setting in settings}
    results = {}
    for round_ in range(rounds + 1):
        for setting in settings:
            # One by one takes long enough for a few.
            some = pixels if setting[1] > 1 else pixels[: max(1, len(pixels) // 8)]
            with reproducible(setting[0], device.type):
                began = time.perf_counter()
                results[setting] = torch.cat([run(part).float().cpu() for part in some.split(setting[1])])
            if round_:  # the first warms up
                seconds[setting].append((time.perf_counter() - began) / len(some))
    return [Line(name, *s, 1 / statistics.median(times), flops, results[s]) for s, times in seconds.items()]


def codes(preset: str, device: torch.device) -> tuple[Run, int]:
    """VQ encoding as `pipelines.steps.tokenize` calls it, and the image side."""
    config = preset_config(preset, tokenizer_size=512, image_token_id=5)
    torch.manual_seed(0)
    vq = vq_tokenizer(config.vq_config).to(device).eval().requires_grad_(False)
    # Random features crowd round one code; spread over the sphere they land anywhere, as trained ones do.
    nn.init.normal_(vq.quantize.embedding.weight)
    return lambda pixels: encode_codes(vq, normalize(pixels.to(device))), config.vision_config.image_size


def scores(architecture: str, device: torch.device) -> tuple[Run, int]:
    """Image and text towers as `pipelines.signals.caption_score` calls them, and the image side."""
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model(architecture, device=device).eval().requires_grad_(False)
    side = model.visual.image_size
    side = side[0] if isinstance(side, tuple) else side
    tokenize = open_clip.get_tokenizer(architecture)
    caption = "A photograph of two people on a beach in the evening, seen from behind, with a dog between them."

    def run(pixels: torch.Tensor) -> torch.Tensor:
        image = model.encode_image(normalize(pixels.to(device)), normalize=True)
        text = model.encode_text(tokenize([caption] * len(pixels)).to(device), normalize=True)
        return (image.float() * text.float()).sum(dim=-1)

    return run, side


def report(lines: Sequence[Line], device: torch.device) -> None:
    """A Markdown table."""
    peaks: dict[str, float] = {}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        peaks = next((peaks for part, peaks in PEAKS.items() if part in name), {})
    exact = {line.name: line.result for line in lines if line.precision == "fp32" and line.batch > 1}
    print("| model | precision | batch | per second | GFLOPs each | of the ceiling | equal to fp32 |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for line in lines:
        peak = peaks.get(line.precision)
        share = f"{line.per_second * line.flops / peak:.0%}" if peak else ""
        reference = exact[line.name][: len(line.result)]
        equal = (line.result - reference).abs() < 1e-4
        print(
            f"| {line.name} | {line.precision} | {line.batch} | {line.per_second:,.1f} | {line.flops / 1e9:,.1f} "
            f"| {share} | {equal.float().mean():.1%} |"
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="janus-1.3b", help="whose VQ tokenizer")
    parser.add_argument("--scorer", default="ViT-L-14", help="an open_clip architecture")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args(arguments)
    device, _ = choose_device(options.device)
    print(hardware(device))
    # The batches of the steps: pipelines/steps/tokenize.py and measure.py.
    batches = {"codes": 64, "scores": 256} if device.type == "cuda" else {"codes": 16, "scores": 16}
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if device.type == "cuda" else ("fp32",)
    lines: list[Line] = []
    models = {"codes": codes(options.preset, device), "scores": scores(options.scorer, device)}
    for name, (run, side) in models.items():
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (options.images, side, side, 3), dtype=torch.uint8, generator=generator)
        settings: list[tuple[Precision, int]] = [("fp32", 1), *[(name_, batches[name]) for name_ in precisions]]
        lines += measure(f"{name}, {side} px", run, pixels, settings, options.rounds, device)
    report(lines, device)


if __name__ == "__main__":
    main()
