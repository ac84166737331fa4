"""GenEval with Facebook's weights of its detector: not comparable with published numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from janus.evaluate.benchmarks.geneval import Benchmark as GenEval


@dataclass(frozen=True)
class Benchmark(GenEval):
    """The same prompts, pictures and rules as `geneval`; GenEval's thresholds were chosen for OpenMMLab's weights."""

    detector: str = "mask2former"
    """What finds objects in the pictures."""
    weights: str = "facebook/mask2former-swin-small-coco-instance"
    """Hub id, or a folder of it."""

    title: ClassVar[str] = "GenEval (Facebook's detector weights)"
    option: ClassVar[str] = "--geneval-facebook"
