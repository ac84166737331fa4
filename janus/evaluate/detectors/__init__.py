"""Detectors: what finds objects in drawn images. One file each, with `load(device)` giving a `geneval.Detector`.

A detector that reads weights has `load(device, weights, color_weights)`, and `origin(weights, color_weights)`, which
names them in the result: numbers of two detectors, or of two sets of weights, are not comparable.

Other packages name theirs as entry points of the group `janus_forge.detectors`; the demo does so with `shapes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.plugins import PluginFolder

if TYPE_CHECKING:
    from janus.evaluate.geneval import Detector

DETECTORS = PluginFolder(__name__, "detector")


def detector_name(name: str, weights: str = "", color_weights: str = "") -> str:
    """Detector and weights, as a result names them: "mask2former OpenMMLab 0123456789ab, colours openai".

    Raises ValueError or FileNotFoundError with one line for a detector or weights that are not there.
    """
    module = DETECTORS.load(name)
    if hasattr(module, "origin"):
        return f"{name} {module.origin(weights, color_weights)}"
    if weights or color_weights:
        raise ValueError(f"the detector {name} takes no weights")
    return name


def load_detector(name: str, device: str, weights: str = "", color_weights: str = "") -> Detector:
    """The detector `name` on a device. Raises as `detector_name`."""
    module = DETECTORS.load(name)
    detector: Detector = (
        module.load(device, weights, color_weights) if hasattr(module, "origin") else module.load(device)
    )
    return detector
