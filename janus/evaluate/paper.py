"""What papers report, to stand beside a measurement: tables 2 to 4 of Janus (arXiv 2410.13848), and of Janus-Pro,
which gives the DPG-Bench of Janus too.

Shares are in percent, as the paper prints them, but for GenEval, which it prints as shares of 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of the paper, and the score of ours that is the same quantity."""

    title: str
    scores: tuple[str, ...]
    """Names of our score; the first that there is."""
    means: str
    """What the paper's number is."""
    factor: float = 100.0
    """Ours times this is in the paper's unit."""
    digits: int = 1
    """Decimals."""


COLUMNS: dict[str, Column] = {
    "pope": Column("POPE", ("random f1", "f1"), "F1 on the random split"),
    "mme": Column("MME-P", ("perception",), "sum of perception scores", 1.0),
    "mmbench": Column("MMB", ("accuracy",), "dev, English, without circular evaluation"),
    "seedbench": Column("SEED", ("accuracy",), "accuracy on the image part"),
    "vqav2": Column("VQAv2", ("accuracy",), "accuracy on the test server"),
    "gqa": Column("GQA", ("accuracy",), "accuracy"),
    "mmmu": Column("MMMU", ("accuracy",), "accuracy on the validation split"),
    "mmvet": Column("MM-Vet", ("accuracy",), "graded by its own evaluator (GPT-4)"),
    "geneval": Column("GenEval", ("overall",), "mean of six tasks", 1.0, 2),
    "coco30k": Column("COCO-30K", ("fid",), "FID, less is better, 256 pixels", 1.0, 2),
    "mjhq30k": Column("MJHQ-30K", ("fid",), "FID, less is better, size not published", 1.0, 2),
    "dpgbench": Column("DPG-Bench", ("overall",), "judged by mPLUG-large", 100.0, 2),
}
"""By benchmark, in the paper's order."""

_NAMES = tuple(name for name in COLUMNS if name not in ("coco30k", "mjhq30k", "dpgbench"))


def _row(*values: float | None, **more: float) -> dict[str, float]:
    return {name: value for name, value in zip(_NAMES, values, strict=bool(values)) if value is not None} | more


TABLE: dict[str, dict[str, float]] = {
    #                        POPE  MME-P   MMB   SEED  VQAv2 GQA   MMMU  MM-Vet GenEval
    "Janus 1.3B": _row(
        87.0, 1338.0, 69.4, 63.7, 77.3, 59.1, 30.5, 34.3, 0.61, coco30k=8.53, mjhq30k=10.10, dpgbench=79.68
    ),
    "Janus-Pro 1B": _row(86.2, 1444.0, 75.5, 68.3, None, 59.3, 36.3, 39.8, 0.73, dpgbench=82.63),
    "Janus-Pro 7B": _row(87.4, 1567.1, 79.2, 72.1, None, 62.0, 41.0, 50.0, 0.80, dpgbench=84.19),
    "Show-o 1.3B": _row(73.8, 948.4, None, None, 59.3, 48.7, 25.1, None, 0.53, coco30k=9.24, mjhq30k=15.18),
    "VILA-U 7B": _row(85.8, 1401.8, None, 59.0, 79.4, 60.8, None, 33.5, None),
    "LWM 7B": _row(75.2, None, None, None, 55.8, 44.8, None, 9.6, 0.47, coco30k=12.68, mjhq30k=17.77),
    "Chameleon 7B (34B drawing)": _row(None, None, None, None, None, None, 22.4, 8.3, 0.39),
    "SEED-X 17B": _row(None, None, None, None, None, None, None, None, 0.49, coco30k=14.99),
    "LLaVA-v1.5-Phi-1.5 1.3B": _row(84.1, 1128.0, None, None, 75.3, 56.5, 30.7, None, None),
    "MobileVLM-V2 1.4B": _row(84.3, 1302.8, 57.7, None, None, 59.3, None, None, None),
    "MobileVLM-V2 2.7B": _row(84.7, 1440.5, 63.2, None, None, 61.1, None, None, None),
    "LLaVA-Phi 2.7B": _row(85.0, 1335.1, 59.8, None, 71.4, None, None, 28.9, None),
    "LLaVA-v1.5 7B": _row(85.9, 1510.7, 64.3, 58.6, 78.5, 62.0, 35.4, 31.1, None),
    "LlamaGen 0.8B": _row(None, None, None, None, None, None, None, None, 0.32),
    "SDv2.1": _row(None, None, None, None, None, None, None, None, 0.50),
    "DALL-E 2": _row(None, None, None, None, None, None, None, None, 0.52, coco30k=10.39),
    "SDXL": _row(None, None, None, None, None, None, None, None, 0.55),
    "VILA-U 7B (256 pixels)": _row(mjhq30k=12.81),
    "VILA-U 7B (384 pixels)": _row(mjhq30k=7.69),
    "SDv1.5": _row(coco30k=9.62),
    "GigaGAN": _row(coco30k=9.09),
    "PixArt-alpha": _row(coco30k=7.32),
    "Imagen": _row(coco30k=7.27),
}
"""Model to benchmark to the number the paper prints; a model that a paper has no number for is left out there."""
